//! PEM ([RFC 7468]) for secrets: one block, strict, wiped. Public objects are read by `rustls-pki-types`, which allows
//! explanatory text between blocks.
//!
//! [RFC 7468]: https://www.rfc-editor.org/rfc/rfc7468

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
#[cfg(test)]
pub(crate) const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";

/// One block, lines of 64 characters. The text is wiped when dropped, and no shorter buffer was outgrown on the way.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let capacity = body.len() + body.len() / LINE_LEN + 2 * (label.len() + "-----BEGIN -----\n".len()) + 1;
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_LEN));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The content of the one block of `label` that `text` is; only white space may surround it.
///
/// Returns `None` for anything else: a private key's text is no place to be generous, nor to quote from in an error.
pub(crate) fn decode_secret(label: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = text
        .trim_ascii()
        .strip_prefix(&format!("-----BEGIN {label}-----"))?
        .strip_suffix(&format!("-----END {label}-----"))?;
    let mut compact = Zeroizing::new(String::with_capacity(body.len()));
    compact.extend(body.chars().filter(|c| !matches!(c, '\n' | '\r')));
    let mut der = Zeroizing::new(vec![0; compact.len()]);
    let len = STANDARD.decode_slice(compact.as_bytes(), &mut der).ok()?;
    der.truncate(len);
    Some(der)
}

const LINE_LEN: usize = 64;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_one_whole_block_is_a_secret() {
        let text = encode(PRIVATE_KEY, b"secret");
        assert_eq!(*decode_secret(PRIVATE_KEY, &text).unwrap(), b"secret");
        assert!(decode_secret(PRIVATE_KEY, &format!("\n{}\n\n", text.as_str())).is_some());
        assert!(decode_secret(PRIVATE_KEY, &format!("{0}{0}", text.as_str())).is_none());
        assert!(decode_secret(PRIVATE_KEY, &format!("note\n{}", text.as_str())).is_none());
        assert!(decode_secret(CERTIFICATE, &text).is_none());
        assert!(decode_secret(PRIVATE_KEY, &text[..text.len() - 3]).is_none());
        assert!(decode_secret(PRIVATE_KEY, &text.replace("c2Vj", "c2V*")).is_none());
        assert!(decode_secret(PRIVATE_KEY, "-----BEGIN PRIVATE KEY-----").is_none());
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(der in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = encode(PRIVATE_KEY, &der);
            prop_assert!(text.lines().all(|line| line.len() <= LINE_LEN));
            prop_assert_eq!(&*decode_secret(PRIVATE_KEY, &text).unwrap(), &der);
        }
    }
}
