//! Licence expressions, as crates write them.
//!
//! SPDX 2.3, annex D: `OR` binds weakest, then `AND`, then `WITH`; parentheses group. Crates older
//! than that write `MIT/Apache-2.0`, which means `OR`.

/// Longer than any honest expression.
const MAX_LEN: usize = 2048;
/// More parentheses inside each other than any honest expression has; each costs stack.
const MAX_DEPTH: usize = 32;

/// Why a text is no licence expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadExpression {
    #[error("is longer than {MAX_LEN} bytes")]
    TooLong,
    #[error("has more than {MAX_DEPTH} parentheses inside each other")]
    TooDeep,
    #[error("has `{found}` where {wanted} should be")]
    Unexpected { found: String, wanted: &'static str },
    #[error("ends where {wanted} should be")]
    Ended { wanted: &'static str },
}

/// Whether the licence can be kept by keeping only allowed ones.
///
/// `allowed` names licences, each as one string, with an exception as in
/// `Apache-2.0 WITH LLVM-exception`: an exception that is not on the list is not assumed harmless.
pub(crate) fn is_allowed(expression: &str, allowed: &[String]) -> Result<bool, BadExpression> {
    if expression.len() > MAX_LEN {
        return Err(BadExpression::TooLong);
    }
    let mut parser = Parser { tokens: tokens(expression), at: 0, depth: 0, allowed };
    let verdict = parser.either()?;
    match parser.next() {
        None => Ok(verdict),
        Some(found) => Err(BadExpression::Unexpected { found: found.to_owned(), wanted: "AND, OR or the end" }),
    }
}

/// Evaluates while it reads; there is no need for a tree.
struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    /// Open parentheses around `at`.
    depth: usize,
    allowed: &'a [String],
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Result<bool, BadExpression> {
        let mut verdict = self.both()?;
        while matches!(self.peek(), Some("OR" | "/")) {
            self.at += 1;
            // Both sides are always read: a broken right side is an error even if the left is fine.
            verdict |= self.both()?;
        }
        Ok(verdict)
    }

    fn both(&mut self) -> Result<bool, BadExpression> {
        let mut verdict = self.one()?;
        while self.peek() == Some("AND") {
            self.at += 1;
            verdict &= self.one()?;
        }
        Ok(verdict)
    }

    fn one(&mut self) -> Result<bool, BadExpression> {
        if self.peek() == Some("(") {
            if self.depth == MAX_DEPTH {
                return Err(BadExpression::TooDeep);
            }
            self.at += 1;
            self.depth += 1;
            let verdict = self.either()?;
            self.depth -= 1;
            return match self.next() {
                Some(")") => Ok(verdict),
                Some(found) => Err(BadExpression::Unexpected { found: found.to_owned(), wanted: "`)`" }),
                None => Err(BadExpression::Ended { wanted: "`)`" }),
            };
        }
        let license = self.name("a licence")?;
        if self.peek() != Some("WITH") {
            // "or later" includes the licence itself, and the choice is ours.
            return Ok(self.is_listed(license.strip_suffix('+').unwrap_or(license)));
        }
        self.at += 1;
        let exception = self.name("an exception")?;
        Ok(self.is_listed(&format!("{license} WITH {exception}")))
    }

    fn name(&mut self, wanted: &'static str) -> Result<&'a str, BadExpression> {
        match self.next() {
            None => Err(BadExpression::Ended { wanted }),
            Some(found @ ("(" | ")" | "/" | "AND" | "OR" | "WITH")) => {
                Err(BadExpression::Unexpected { found: found.to_owned(), wanted })
            }
            Some(name) => Ok(name),
        }
    }

    fn is_listed(&self, license: &str) -> bool {
        self.allowed.iter().any(|one| one == license)
    }

    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }
}

/// Words, and the single characters `(`, `)` and `/`.
fn tokens(expression: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for word in expression.split_whitespace() {
        let mut rest = word;
        while let Some(at) = rest.find(['(', ')', '/']) {
            let (before, from) = rest.split_at(at);
            let (sign, after) = from.split_at(1);
            found.extend([before, sign].into_iter().filter(|token| !token.is_empty()));
            rest = after;
        }
        if !rest.is_empty() {
            found.push(rest);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(expression: &str) -> Result<bool, BadExpression> {
        let allowed = ["MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        is_allowed(expression, &allowed)
    }

    #[test]
    fn what_crates_write() {
        for (expression, want) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("GPL-3.0-only OR MIT", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT AND ISC", true),
            ("MIT/Apache-2.0", true),
            ("Unlicense/MIT", true),
            ("Apache-2.0 / MIT", true),
            ("GPL-2.0/LGPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
            ("(MIT OR GPL-3.0-only) AND ISC", true),
            ("GPL-3.0-only AND (MIT OR ISC)", false),
            ("((MIT))", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH LLVM-exception", false),
            ("Apache-2.0 WITH Classpath-exception-2.0", false),
            ("Apache-2.0 WITH Classpath-exception-2.0 OR ISC", true),
            ("Apache-2.0+", true),
            ("GPL-2.0+", false),
            ("BSD-3-Clause-Clear", false),
            ("mit", false),
        ] {
            assert_eq!(verdict(expression), Ok(want), "{expression}");
        }
    }

    #[test]
    fn and_binds_tighter_than_or() {
        assert_eq!(verdict("MIT OR GPL-3.0-only AND GPL-2.0-only"), Ok(true));
        assert_eq!(verdict("GPL-2.0-only AND GPL-3.0-only OR MIT"), Ok(true));
        assert_eq!(verdict("(MIT OR GPL-3.0-only) AND GPL-2.0-only"), Ok(false));
    }

    #[test]
    fn what_is_no_expression_is_an_error_and_not_a_yes() {
        for broken in [
            "",
            "MIT OR",
            "AND MIT",
            "MIT ISC",
            "MIT or ISC",
            "(MIT",
            "MIT)",
            "()",
            "MIT OR OR ISC",
            "MIT WITH",
            "MIT,ISC OR",
            "//",
        ] {
            assert!(verdict(broken).is_err(), "{broken}");
        }
        assert_eq!(verdict(&"(".repeat(MAX_LEN + 1)), Err(BadExpression::TooLong));
        assert_eq!(verdict(&"(".repeat(MAX_LEN)), Err(BadExpression::TooDeep));
        let nested = |depth| format!("{}MIT{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(verdict(&nested(MAX_DEPTH)), Ok(true));
        assert_eq!(verdict(&nested(MAX_DEPTH + 1)), Err(BadExpression::TooDeep));
    }
}
