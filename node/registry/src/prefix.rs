use std::{fmt, str::FromStr};

use flotilla_oci::Name;
use serde::{Deserialize, Serialize};

/// What a cache rule or a template covers: every repository, or those below a name. The implied `/` at its end is not
/// kept, so `dh` and `dh/` are one prefix (`ecr-api.md` §5.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Prefix {
    Root,
    Below(Name),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither a repository prefix nor ROOT")]
pub struct InvalidPrefix(pub String);

impl Prefix {
    /// What is left of `name` behind the prefix; `None` when the prefix does not cover it. `prod` covers `prod/x`,
    /// neither `prod` nor `production/x`.
    pub fn rest<'a>(&self, name: &'a Name) -> Option<&'a str> {
        match self {
            Self::Root => Some(name.as_str()),
            Self::Below(prefix) => name.as_str().strip_prefix(prefix.as_str())?.strip_prefix('/'),
        }
    }

    /// Longer prefixes win; `ROOT` loses to all.
    pub fn precedence(&self) -> usize {
        match self {
            Self::Root => 0,
            Self::Below(prefix) => prefix.as_str().len(),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Root => "ROOT",
            Self::Below(prefix) => prefix.as_str(),
        }
    }
}

impl FromStr for Prefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        if text == "ROOT" {
            return Ok(Self::Root);
        }
        let name = text.strip_suffix('/').unwrap_or(text);
        name.parse().map(Self::Below).map_err(|_| InvalidPrefix(text.to_owned()))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_what_is_below_it_and_nothing_else() {
        let prefix: Prefix = "prod/".parse().unwrap();
        assert_eq!(prefix, "prod".parse().unwrap());
        for (name, rest) in [("prod/x", Some("x")), ("prod/x/y", Some("x/y")), ("prod", None), ("production/x", None)] {
            assert_eq!(prefix.rest(&name.parse().unwrap()), rest, "{name}");
        }
        assert_eq!(Prefix::Root.rest(&"a/b".parse().unwrap()), Some("a/b"));
    }
}
