//! What a Bearer token is for, in the client's own names (distribution spec, "Token Scope Documentation").

use flotilla_oci::Name;
use serde::{Deserialize, Serialize};

/// docker asks for as many as it mounts from, which is a handful.
const GRANTS_MAX: usize = 16;

/// Sixteen of the longest names.
const TEXT_LIMIT_BYTES: usize = 5 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grant {
    /// Name as the client asks for it, before it is mapped.
    Repository {
        name: Name,
        pull: bool,
        push: bool,
    },
    Catalog,
}

/// What a request wants of its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Only to be signed in.
    SignIn,
    Catalog,
    Pull(&'a Name),
    Push(&'a Name),
}

/// What a sign-in is good for, beside what its principal may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Credentials themselves, or none.
    Everything,
    Only(Vec<Grant>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many scopes: at most {GRANTS_MAX}, and {TEXT_LIMIT_BYTES} bytes")]
pub struct TooManyScopes;

impl Scope {
    pub fn covers(&self, wanted: Wanted<'_>) -> bool {
        let Self::Only(grants) = self else { return true };
        grants.iter().any(|grant| match (grant, wanted) {
            (Grant::Repository { name, pull: true, .. }, Wanted::Pull(asked))
            | (Grant::Repository { name, push: true, .. }, Wanted::Push(asked)) => name == asked,
            (Grant::Catalog, Wanted::Catalog) => true,
            _ => false,
        }) || wanted == Wanted::SignIn
    }
}

impl Grant {
    /// Reads the `scope` parameters of a token request, each of which may hold several between spaces. What is not
    /// known here grants nothing, as in other registries: some clients ask for more than they need.
    ///
    /// # Errors
    /// [`TooManyScopes`].
    pub fn parse<'a>(parameters: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, TooManyScopes> {
        let (mut grants, mut bytes, mut count) = (Vec::new(), 0, 0);
        for parameter in parameters {
            bytes += parameter.len();
            for text in parameter.split(' ').filter(|text| !text.is_empty()) {
                count += 1;
                if bytes > TEXT_LIMIT_BYTES || count > GRANTS_MAX {
                    return Err(TooManyScopes);
                }
                grants.extend(Self::read(text));
            }
        }
        Ok(grants)
    }

    fn read(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let has = |wanted| actions.split(',').any(|action| action == wanted || action == "*");
        match kind {
            // docker's plugins are repositories too.
            "repository" | "repository(plugin)" => {
                Some(Self::Repository { name: name.parse().ok()?, pull: has("pull"), push: has("push") })
            }
            "registry" if name == "catalog" && has("*") => Some(Self::Catalog),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(name: &str, pull: bool, push: bool) -> Grant {
        Grant::Repository { name: name.parse().unwrap(), pull, push }
    }

    #[test]
    fn scopes_are_read_as_clients_write_them() {
        for (text, grants) in [
            ("repository:a/b:pull", vec![grant("a/b", true, false)]),
            ("repository:a/b:pull,push", vec![grant("a/b", true, true)]),
            ("repository:a/b:*", vec![grant("a/b", true, true)]),
            ("repository:a:pull  repository:b:push", vec![grant("a", true, false), grant("b", false, true)]),
            ("repository(plugin):a/b:pull", vec![grant("a/b", true, false)]),
            ("registry:catalog:*", vec![Grant::Catalog]),
            ("repository:UPPER:pull", vec![]),
            ("repository:a", vec![]),
            ("registry:other:*", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(Grant::parse([text]), Ok(grants), "{text}");
        }
        let two = ["repository:a:pull", "repository:b:pull"];
        assert_eq!(Grant::parse(two).unwrap().len(), 2);
    }

    #[test]
    fn scopes_are_bounded_in_number_and_length() {
        let many = |n: usize| vec!["repository:a:pull"; n];
        assert_eq!(Grant::parse(many(16)).unwrap().len(), 16);
        assert_eq!(Grant::parse(many(17)), Err(TooManyScopes));
        assert_eq!(Grant::parse([many(17).join(" ").as_str()]), Err(TooManyScopes));
        assert_eq!(Grant::parse(["x".repeat(TEXT_LIMIT_BYTES + 1).as_str()]), Err(TooManyScopes));
    }

    #[test]
    fn a_token_is_for_what_it_was_asked_for() {
        let (a, b): (Name, Name) = ("a".parse().unwrap(), "b".parse().unwrap());
        let pull = Scope::Only(vec![grant("a", true, false)]);
        for (wanted, covered) in [
            (Wanted::SignIn, true),
            (Wanted::Pull(&a), true),
            (Wanted::Push(&a), false),
            (Wanted::Pull(&b), false),
            (Wanted::Catalog, false),
        ] {
            assert_eq!(pull.covers(wanted), covered, "{wanted:?}");
            assert!(Scope::Everything.covers(wanted));
            assert_eq!(Scope::Only(vec![]).covers(wanted), wanted == Wanted::SignIn, "{wanted:?}");
        }
        let rest = Scope::Only(vec![grant("a", false, true), Grant::Catalog]);
        assert!(rest.covers(Wanted::Push(&a)) && rest.covers(Wanted::Catalog) && !rest.covers(Wanted::Pull(&a)));
    }
}
