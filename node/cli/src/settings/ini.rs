/// The values of one section of an AWS shared file; `None` when it has no such section. Of a key given twice the last
/// counts.
pub(super) fn section<'a>(text: &'a str, name: &str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut found: Option<Vec<(&str, &str)>> = None;
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            inside = header.split(']').next().map(str::trim) == Some(name);
            if inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
            found.get_or_insert_default().push((key.trim(), value.trim()));
        }
    }
    found
}

/// The last value of a key that is not empty.
pub(super) fn value<'a>(section: &[(&'a str, &'a str)], key: &str) -> Option<&'a str> {
    section.iter().rev().find(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# keys\n[default]\naws_access_key_id = A\naws_secret_access_key=b=c\n\n[ other ] ; x\n; c\n\
                        aws_access_key_id = O\naws_access_key_id = P\nempty =\nnonsense\n[bare]\n";

    #[test]
    fn sections_hold_their_own_values() {
        let default = section(FILE, "default").unwrap();
        assert_eq!(value(&default, "aws_access_key_id"), Some("A"));
        assert_eq!(value(&default, "aws_secret_access_key"), Some("b=c"));
        let other = section(FILE, "other").unwrap();
        assert_eq!((value(&other, "aws_access_key_id"), value(&other, "empty")), (Some("P"), None));
        assert_eq!(section(FILE, "bare"), Some(vec![]));
        assert_eq!(section(FILE, "missing"), None);
        assert_eq!(section("key = outside", "default"), None);
    }
}
