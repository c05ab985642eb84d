/// `a`, `a.b`, `a_b`, `a__b`, `a--b`: runs of lower-case letters and digits, joined by one dot, one or two underscores,
/// or any number of dashes.
fn is_component(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    word(first)
        && word(last)
        && bytes.split(word).all(|joint| match joint {
            [] | b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|b| *b == b'-'),
        })
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_component)
}

/// A repository's name; AWS's bounds of length included.
pub fn is_repository_name(text: &str) -> bool {
    (2..=256).contains(&text.len()) && is_path(text)
}

fn is_prefix(text: &str) -> bool {
    text == "ROOT" || is_path(text.strip_suffix('/').unwrap_or(text))
}

/// A prefix of a cache rule, here or upstream: a path, perhaps with one slash at its end, or `ROOT`.
pub fn is_ptc_prefix(text: &str) -> bool {
    (2..=30).contains(&text.len()) && is_prefix(text)
}

/// A prefix of a template: a path, perhaps with one slash at its end, or `ROOT`.
pub fn is_template_prefix(text: &str) -> bool {
    (1..=256).contains(&text.len()) && is_prefix(text)
}

/// A pattern over tags: letters, digits, `.`, `_`, `-` and the wildcard `*`.
pub fn is_exclusion_filter(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._*-".contains(&b))
}

/// `algorithm:hex`, as ECR writes its own pattern: `[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+`.
pub fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    !algorithm.is_empty()
        && !hex.is_empty()
        && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+.".contains(&b))
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

pub(super) fn is_credential_arn(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("arn:aws") else { return false };
    let Some((partition, rest)) = rest.split_once(":secretsmanager:") else { return false };
    let Some((place, name)) = rest.split_once(":secret:ecr-pullthroughcache/") else { return false };
    let partition_ok = partition.is_empty()
        || partition.strip_prefix('-').is_some_and(|suffixes| {
            suffixes
                .split('-')
                .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        });
    partition_ok
        && !place.is_empty()
        && place.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b':')
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repository_names() {
        for good in ["ab", "a0", "0a", "a.b", "a_b", "a__b", "a-b", "a--b", "a---b", "a/b", "a/b/c.d", "docker-hub/x"] {
            assert!(is_repository_name(good), "{good}");
        }
        for bad in [
            "", "a", "A0", "a..b", "a___b", "a/", "/a", "-a", "a-", "a.", ".a", "a._b", "a-_b", "a//b", "a b", "aé",
            "a\n", "ROOT", "a/-b",
        ] {
            assert!(!is_repository_name(bad), "{bad}");
        }
    }

    #[test]
    fn prefixes() {
        for good in ["ROOT", "ab", "ab/", "docker-hub", "a/b", "a/b/"] {
            assert!(is_ptc_prefix(good) && is_template_prefix(good), "{good}");
        }
        for bad in ["", "/", "ab//", "root/ROOT", "Root", "ROOT/", "/ab", "a b", "a..b"] {
            assert!(!is_ptc_prefix(bad) && !is_template_prefix(bad), "{bad}");
        }
        assert!(is_template_prefix("a") && !is_ptc_prefix("a"));
    }

    #[test]
    fn exclusion_filters() {
        for (text, good) in [("latest*", true), ("v1.0_x-*", true), ("", false), ("a/b", false), ("é", false)] {
            assert_eq!(is_exclusion_filter(text), good, "{text}");
        }
        assert!(!is_exclusion_filter(&"a".repeat(129)));
    }

    #[test]
    fn digests() {
        for (text, good) in [
            ("sha256:aa", true),
            ("sha512+b64u:0F", true),
            ("sha256:", false),
            (":aa", false),
            ("sha256:xy", false),
            ("aa", false),
        ] {
            assert_eq!(is_digest(text), good, "{text}");
        }
    }

    proptest! {
        #[test]
        fn generated_names_are_names(name in "[a-z0-9]{1,5}((\\.|_|__|-{1,4})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,4}((\\.|_|__|-{1,4})[a-z0-9]{1,4}){0,2}){1,3}") {
            prop_assert!(is_repository_name(&name));
        }

        #[test]
        fn nothing_panics(text in ".*") {
            let _ = (is_repository_name(&text), is_ptc_prefix(&text), is_digest(&text), is_credential_arn(&text));
        }
    }
}
