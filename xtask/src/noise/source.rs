//! What a source hands to `NoiseRng::from_os`: words and signs of Rust, without comments and the insides of strings.

use std::iter::Peekable;
use std::str::Chars;

/// What was seen in one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Calls that take the seed from the operating system.
    pub(super) calls: usize,
    /// What may be something else: the line, and what is wrong there.
    pub(super) wrong: Vec<String>,
}

/// Looks at every place where a source names the constructor. It may only be called, and only as
/// `NoiseRng::from_os(getrandom::fill)`: what is renamed, stored or wrapped could be anything, and is refused.
pub(super) fn look(source: &str) -> Seen {
    let tokens = tokens(source);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut seen = Seen::default();
    for (at, token) in tokens.iter().enumerate() {
        let before = |by: usize| at.checked_sub(by).map_or("", text);
        match token.text.as_str() {
            CONSTRUCTOR => {
                let of_noise = [before(3), before(2), before(1)] == [GENERATOR, ":", ":"];
                let mut wanted = ["(", "getrandom", ":", ":", "fill"].iter().zip(at + 1..);
                let from_system = wanted.all(|(want, at)| text(at) == *want);
                // rustfmt leaves a comma where the argument has a line of its own.
                let closed = text(at + 6) == ")" || (text(at + 6), text(at + 7)) == (",", ")");
                if of_noise && from_system && closed {
                    seen.calls += 1;
                } else {
                    seen.wrong.push(format!(
                        "{}: only `{GENERATOR}::{CONSTRUCTOR}(getrandom::fill)` may stand here",
                        token.line
                    ));
                }
            }
            // The names have to mean what they say.
            "getrandom" if before(1) == ":" || text(at + 1) != ":" => {
                seen.wrong.push(format!("{}: `getrandom` has to be the crate, named as `getrandom::...`", token.line));
            }
            GENERATOR if matches!(before(1), "as" | "mod" | "struct" | "enum" | "type" | "trait") => {
                seen.wrong.push(format!("{}: nothing else may be called `{GENERATOR}`", token.line));
            }
            "as" if before(1) == GENERATOR => {
                seen.wrong.push(format!("{}: `{GENERATOR}` may have no other name", token.line));
            }
            _ => {}
        }
    }
    seen
}

/// A word, a sign, or a literal without its inside.
#[derive(Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader { rest: source.chars().peekable(), line: 1 };
    let mut tokens = Vec::new();
    while let Some(&first) = reader.rest.peek() {
        let line = reader.line;
        if let Some(text) = reader.token(first) {
            tokens.push(Token { line, text });
        }
    }
    tokens
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    /// What starts with `first`, which is next; `None` for comments and white space.
    fn token(&mut self, first: char) -> Option<String> {
        if is_word(first) {
            return Some(self.word());
        }
        self.next();
        match (first, self.rest.peek().copied()) {
            ('/', Some('/')) => {
                while self.rest.peek().is_some_and(|&next| next != '\n') {
                    self.next();
                }
                None
            }
            ('/', Some('*')) => {
                self.comment();
                None
            }
            ('"', _) => {
                self.string();
                Some("\"\"".to_owned())
            }
            ('\'', Some(next)) => {
                self.quote(next);
                Some("'".to_owned())
            }
            _ => (!first.is_whitespace()).then(|| first.to_string()),
        }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    /// A name, a number, or the prefix of a literal together with the literal.
    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(next) = self.rest.next_if(|&next| is_word(next)) {
            word.push(next);
        }
        match (word.as_str(), self.rest.peek()) {
            ("r" | "br" | "cr", Some('"' | '#')) => self.raw(),
            ("b" | "c", Some('"')) => {
                self.next();
                self.string();
                "\"\"".to_owned()
            }
            _ => word,
        }
    }

    /// From the signs behind the `r` of a raw string or of a raw name, which is the name.
    fn raw(&mut self) -> String {
        let mut fence = 0;
        while self.rest.next_if_eq(&'#').is_some() {
            fence += 1;
        }
        if self.rest.next_if_eq(&'"').is_none() {
            return self.word();
        }
        let mut closing = None;
        while let Some(next) = self.next() {
            closing = match (next, closing) {
                ('"', _) => Some(0),
                ('#', Some(count)) => Some(count + 1),
                _ => None,
            };
            if closing == Some(fence) {
                break;
            }
        }
        "\"\"".to_owned()
    }

    /// To the end of a string.
    fn string(&mut self) {
        while let Some(next) = self.next() {
            match next {
                '\\' => {
                    self.next();
                }
                '"' => return,
                _ => {}
            }
        }
    }

    /// A character behind its quote, or a lifetime, of which only the quote is taken.
    fn quote(&mut self, next: char) {
        let mut ahead = self.rest.clone();
        ahead.next();
        if next == '\\' {
            self.next();
            self.next();
            while self.next().is_some_and(|next| next != '\'') {}
        } else if ahead.next() == Some('\'') {
            self.next();
            self.next();
        }
    }

    /// To the end of a comment, from its star; comments may hold comments.
    fn comment(&mut self) {
        self.next();
        let mut depth = 1;
        while depth > 0 {
            match (self.next(), self.rest.peek()) {
                (Some('*'), Some('/')) => {
                    self.next();
                    depth -= 1;
                }
                (Some('/'), Some('*')) => {
                    self.next();
                    depth += 1;
                }
                (Some(_), _) => {}
                (None, _) => return,
            }
        }
    }
}

fn is_word(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

const GENERATOR: &str = "NoiseRng";
const CONSTRUCTOR: &str = "from_os";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_with_the_systems_entropy_are_counted() {
        for (source, calls) in [
            ("", 0),
            ("fn main() { draw(); }", 0),
            ("let rng = NoiseRng::from_os(getrandom::fill)?;", 1),
            (
                "a(sordino_dp::noise::NoiseRng::from_os(getrandom::fill)); b(NoiseRng :: from_os ( getrandom :: fill ));",
                2,
            ),
            ("let rng = NoiseRng::from_os(\n    // fresh\n    getrandom::fill,\n)?;", 1),
            ("// NoiseRng::from_os(seeded)\n/* from_os /* from_os */ from_os */ \"from_os \\\" from_os\"", 0),
            ("r##\"from_os \"# from_os\"## br\"from_os\" b\"from_os\" '\"' '\\'' '\\u{22}' from_os_rng x.from_osx", 0),
            ("fn f<'a>(x: &'a str) -> char { '\"' } NoiseRng::from_os(getrandom::fill)", 1),
            ("use getrandom::fill as unused; use x as y; mod z { type A = NoiseRng; }", 0),
            (&"NoiseRng::from_os(getrandom::fill);\n".repeat(1000), 1000),
        ] {
            assert_eq!(look(source), Seen { calls, wrong: Vec::new() }, "{source}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (source, line) in [
            ("NoiseRng::from_os(|seed| { seed.fill(7); Ok(()) })", 1),
            ("\nNoiseRng::from_os(fill)", 2),
            ("NoiseRng::from_os(getrandom::fill_with)", 1),
            ("NoiseRng::from_os(getrandom::fill.or(seeded))", 1),
            ("NoiseRng::from_os(own::getrandom::fill)", 1),
            ("\n\nlet make = NoiseRng::from_os;", 3),
            ("[1].map(NoiseRng::from_os)", 1),
            ("R::from_os(getrandom::fill)", 1),
            ("<NoiseRng>::from_os(getrandom::fill)", 1),
            ("NoiseRng::r#from_os(seeded)", 1),
            ("\"one\n two\"; 'x'; NoiseRng::from_os(seeded)", 2),
            ("/* \n */ r#\"\n\"#; NoiseRng::from_os(seeded)", 3),
            ("use sordino_dp::noise::NoiseRng as R;", 1),
            ("use own as getrandom;", 1),
            ("mod getrandom { pub fn fill() {} }", 1),
            ("use own::getrandom;", 1),
            ("use own::{fill, getrandom};", 1),
            ("struct NoiseRng;", 1),
            ("extern crate getrandom as other;", 1),
        ] {
            let seen = look(source);
            assert!(seen.calls == 0 && !seen.wrong.is_empty(), "{source}: {seen:?}");
            assert!(seen.wrong[0].starts_with(&format!("{line}: ")), "{source}: {seen:?}");
        }
    }
}
