//! What is wrong with a configuration file, without what is written in it: a line may hold a proxy's password.

/// Where, and what was expected there. toml's own text shows the whole line, and the value in it.
pub(crate) fn explain(text: &str, error: &toml::de::Error) -> String {
    let what = without_value(error.message());
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return what };
    let line = before.matches('\n').count() + 1;
    let begun = before.rsplit('\n').next().unwrap_or_default();
    let column = begun.chars().count() + 1;
    match key(begun) {
        Some(key) => format!("line {line}, column {column}: {key}: {what}"),
        None => format!("line {line}, column {column}: {what}"),
    }
}

/// The key of a line, of which `begun` leads up to its value. Only what a key may look like: nothing of a value.
fn key(begun: &str) -> Option<&str> {
    let key = begun.split_once('=')?.0.trim();
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!key.is_empty() && key.chars().all(is_bare)).then_some(key)
}

/// serde says "invalid type: string "x", expected a sequence": what it found goes, what our types expect stays.
fn without_value(message: &str) -> String {
    for kind in ["invalid type", "invalid value", "invalid length"] {
        if let Some(found) = message.strip_prefix(kind) {
            // The last one: what was found may have the word, too.
            let expected = found.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
            return format!("{kind}, expected {expected}");
        }
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_password_is_not_repeated_and_its_line_is_named() {
        let node = "[node]\ndata_dir = \"/x\"\n[upstream]\n";
        for line in [
            "http_proxy = \"http://user:pa55word@proxy:1",
            "http_proxy = http://user:pa55word@proxy:1",
            "http_proxy = [\"http://user:pa55word@proxy:1\"]",
            "http_proxy = { url = \"http://user:pa55word@proxy:1\" }",
            "no_proxy = \"http://user:pa55word@proxy:1\"",
            "no_proxy = \"pa55word, expected pa55word\"",
            "https_proxy = \"http://user:pa55word@proxy:1\" x",
            "connect_timeout_seconds = \"http://user:pa55word@proxy:1\"",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("flotilla.toml");
            std::fs::write(&path, format!("{node}{line}\n")).unwrap();
            let error = Config::read(&path).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains("pa55word"), "{line}: {told}");
            assert!(told.contains("line 4, column "), "{line}: {told}");
        }
    }

    #[test]
    fn where_and_what_is_said() {
        let text = "[a]\nb = \"x\"\n";
        let error = toml::from_str::<std::collections::BTreeMap<String, std::collections::BTreeMap<String, u8>>>(text);
        assert_eq!(explain(text, &error.unwrap_err()), "line 2, column 5: b: invalid type, expected u8");
    }
}
