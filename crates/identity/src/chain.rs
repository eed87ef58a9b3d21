//! A certificate chain as one byte string, as it travels inside a protocol's messages: leaf first, each certificate
//! behind its length, u32 little-endian.

use rustls_pki_types::CertificateDer;

/// Certificates in a chain, at most.
pub const CHAIN_MAX: usize = 4;

/// The chain as bytes.
///
/// # Panics
/// For a certificate of 4 GiB or more, which nothing reads.
#[must_use]
pub fn encode_chain(chain: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for certificate in chain {
        let len = u32::try_from(certificate.len()).expect("certificates are bounded where they are read");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(certificate);
    }
    out
}

/// The chain from its bytes; `None` for none, for more than [`CHAIN_MAX`], or for bytes that are not exactly a chain.
#[must_use]
pub fn decode_chain(mut bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut chain = Vec::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (certificate, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        if chain.len() == CHAIN_MAX {
            return None;
        }
        chain.push(CertificateDer::from(certificate.to_vec()));
        bytes = rest;
    }
    (!chain.is_empty()).then_some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(chain in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 1..=4)) {
            let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
            let bytes = encode_chain(&chain);
            prop_assert_eq!(decode_chain(&bytes), Some(chain));
            for cut in 1..bytes.len() {
                if let Some(shorter) = decode_chain(&bytes[..cut]) {
                    prop_assert_eq!(encode_chain(&shorter), &bytes[..cut]);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(chain) = decode_chain(&bytes) {
                prop_assert_eq!(encode_chain(&chain), bytes);
            }
        }
    }

    #[test]
    fn no_chain_and_long_chains_are_refused() {
        assert_eq!(decode_chain(&[]), None);
        assert_eq!(decode_chain(&encode_chain(&vec![CertificateDer::from(vec![1]); CHAIN_MAX + 1])), None);
    }
}
