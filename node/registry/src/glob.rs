use serde::{Deserialize, Serialize};

/// A glob over a whole text: `*` is zero or more characters, everything else is literal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glob(pub String);

impl Glob {
    /// Linear in pattern and text: on a mismatch the last `*` takes one character more, and earlier ones never again.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut last_star = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    last_star = Some((p, t));
                    p += 1;
                }
                Some(&c) if c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match last_star {
                    Some((star, taken)) => {
                        last_star = Some((star, taken + 1));
                        p = star + 1;
                        t = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, exponential and obvious.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| oracle(rest, &text[n..])),
            Some((c, rest)) => text.split_first().is_some_and(|(t, tail)| t == c && oracle(rest, tail)),
        }
    }

    proptest! {
        #[test]
        fn globs_match_as_their_definition_says(pattern in "[ab*]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(Glob(pattern.clone()).matches(&text), oracle(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
