//! `WWW-Authenticate` (RFC 9110, 11.6.1): several challenges in one header or several headers, parameters as tokens or
//! quoted strings. What cannot be read ends its header; what was read before it counts.

use http::{HeaderMap, header};
use url::Url;

/// More than any registry sends; a hostile header costs no more than this.
const MAX_CHALLENGES: usize = 16;
const MAX_PARAMETERS: usize = 16;

/// How an upstream wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from a service (Docker token authentication).
    Bearer {
        realm: Url,
        service: Option<String>,
    },
    Basic,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Raw {
    /// In lower case.
    scheme: String,
    /// Names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The challenge to answer: Bearer before Basic. `None` when there is none that we can answer.
    pub(crate) fn choose(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let raw: Vec<Raw> =
            values.filter_map(|value| value.to_str().ok()).flat_map(parse).take(MAX_CHALLENGES).collect();
        let bearer = raw.iter().filter(|raw| raw.scheme == "bearer").find_map(|raw| {
            let mut realm = Url::parse(raw.get("realm")?).ok()?;
            realm.set_fragment(None);
            Some(Self::Bearer { realm, service: raw.get("service").map(str::to_owned) })
        });
        bearer.or_else(|| raw.iter().any(|raw| raw.scheme == "basic").then_some(Self::Basic))
    }
}

impl Raw {
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn parse(header: &str) -> Vec<Raw> {
    let mut rest = Cursor(header);
    let mut challenges: Vec<Raw> = Vec::new();
    loop {
        rest.skip(|c| c == ',' || is_space(c));
        let word = rest.take(is_token);
        if word.is_empty() {
            return challenges;
        }
        let after_word = rest.0;
        rest.skip(is_space);
        if let Some(current) = challenges.last_mut()
            && rest.eat('=')
        {
            rest.skip(is_space);
            let Some(value) = rest.value() else { return challenges };
            if current.parameters.len() < MAX_PARAMETERS {
                current.parameters.push((word.to_ascii_lowercase(), value));
            }
            continue;
        }
        if challenges.len() == MAX_CHALLENGES {
            return challenges;
        }
        challenges.push(Raw { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
        if after_word.starts_with(is_space) {
            rest.skip_token68();
        } else if !rest.0.is_empty() && !rest.0.starts_with(',') {
            return challenges;
        }
    }
}

struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn take(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !accept(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip(&mut self, accept: impl Fn(char) -> bool) {
        self.take(accept);
    }

    fn eat(&mut self, c: char) -> bool {
        self.0.strip_prefix(c).map(|rest| self.0 = rest).is_some()
    }

    /// The data of schemes that have no parameters, such as `Negotiate`.
    fn skip_token68(&mut self) {
        let mut ahead = Cursor(self.0);
        ahead.skip(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c));
        ahead.skip(|c| c == '=');
        ahead.skip(is_space);
        if ahead.0.is_empty() || ahead.0.starts_with(',') {
            self.0 = ahead.0;
        }
    }

    /// `None` for a quoted string without an end.
    fn value(&mut self) -> Option<String> {
        if !self.eat('"') {
            // Wider than a token: some registries do not quote the URL of their realm.
            return Some(self.take(|c| c != ',' && c != '"' && !is_space(c)).to_owned());
        }
        let mut value = String::new();
        let mut chars = self.0.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => value.push(chars.next()?),
                c => value.push(c),
            }
        }
        self.0 = chars.as_str();
        Some(value)
    }
}

fn is_space(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn choose(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Challenge::choose(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: Url::parse(realm).unwrap(), service: service.map(str::to_owned) })
    }

    #[test]
    fn challenges_of_registries_are_read() {
        let hub =
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;
        assert_eq!(choose(&[hub]), bearer("https://auth.docker.io/token", Some("registry.docker.io")));
        assert_eq!(
            choose(&["bearer  Realm = \"https://a.example/t\" , SERVICE=s"]),
            bearer("https://a.example/t", Some("s"))
        );
        assert_eq!(choose(&["Bearer realm=https://a.example/t?x=1"]), bearer("https://a.example/t?x=1", None));
        assert_eq!(choose(&[r#"Basic realm="a, Bearer realm=b""#]), Some(Challenge::Basic));
        assert_eq!(choose(&["Basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn bearer_is_found_among_others() {
        let want = bearer("https://a.example/t", Some("x\"y\\z, w"));
        let ours = r#"Bearer realm="https://a.example/t",service="x\"y\\z, w""#;
        assert_eq!(choose(&[r#"Basic realm="r""#, ours]), want);
        assert_eq!(choose(&[&format!(r#"Negotiate, Basic realm="r", {ours}"#)]), want);
        assert_eq!(choose(&[&format!("Negotiate YWJj==, {ours}, Digest nonce=1")]), want);
        assert_eq!(choose(&[&format!(",, {ours},,")]), want);
    }

    #[test]
    fn what_cannot_be_answered_is_none() {
        for bad in [
            "",
            ",",
            "=",
            "realm=\"https://a.example/\"",
            "Bearer",
            "Bearer realm",
            "Bearer realm=\"https://a.example",
            "Bearer realm=\"/token\"",
            "Bearer service=\"x\"",
            "Negotiate YWJj==",
            "\"",
            "Bearer realm=\"x\\",
        ] {
            assert_eq!(choose(&[bad]), None, "{bad}");
        }
    }

    #[test]
    fn a_long_hostile_header_costs_little() {
        assert!(parse(&"a ".repeat(10_000)).len() <= MAX_CHALLENGES);
        assert!(
            parse(&format!("a {}", "b=c,".repeat(10_000))).iter().all(|raw| raw.parameters.len() <= MAX_PARAMETERS)
        );
    }

    proptest! {
        #[test]
        fn hostile_headers_never_panic(value: String) {
            let _ = parse(&value);
        }

        #[test]
        fn hostile_grammar_never_panics(value in r#"([Bb]earer|Basic|a|=|,|"|\\| |\t|realm|==|/)*"#) {
            let _ = parse(&value);
        }

        #[test]
        fn quoted_parameters_round_trip(value in "[ -~]{0,64}", other in "[ -~]{0,16}") {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let raw = parse(&format!(r#"Digest a=b, Bearer x="{}",service="{}", Basic"#, quote(&other), quote(&value)));
            prop_assert_eq!(raw.len(), 3);
            prop_assert_eq!(raw[1].get("service"), Some(value.as_str()));
            prop_assert_eq!(raw[1].get("x"), Some(other.as_str()));
        }
    }
}
