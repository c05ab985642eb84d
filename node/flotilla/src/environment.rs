use std::{env, ffi::OsString};

use flotilla_base::Secret;
use flotilla_upstream::UpstreamConfig;

/// The proxies that the environment names, as it does for most programs; lower case goes before upper case.
#[derive(Debug, Default)]
pub struct EnvironmentProxies {
    https: Option<Secret>,
    http: Option<Secret>,
    direct: Option<Vec<String>>,
}

impl EnvironmentProxies {
    /// Of this process; read once, at its start.
    pub fn of_process() -> Self {
        Self::read(|name| env::var_os(name))
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        // One that is empty is as good as none. One that is not UTF-8 is neither a URL nor a list of hosts.
        let text = |names: [&str; 2]| {
            let values = names.into_iter().filter_map(&variable).filter_map(|value| value.into_string().ok());
            values.map(|value| value.trim().to_owned()).find(|value| !value.is_empty())
        };
        let direct = text(["no_proxy", "NO_PROXY"]);
        Self {
            https: text(["https_proxy", "HTTPS_PROXY"]).map(Secret::from),
            // Upper case is dangerous only where a web server sets variables by the headers of requests.
            http: text(["http_proxy", "HTTP_PROXY"]).map(Secret::from),
            direct: direct.map(|list| {
                let entries = list.split(|c: char| c == ',' || c.is_whitespace());
                entries.filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
            }),
        }
    }

    /// Takes the place of what the file does not say, key by key.
    pub fn fill(self, config: &mut UpstreamConfig) {
        config.https_proxy = config.https_proxy.take().or(self.https);
        config.http_proxy = config.http_proxy.take().or(self.http);
        config.no_proxy = config.no_proxy.take().or(self.direct);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> EnvironmentProxies {
        EnvironmentProxies::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    fn text(secret: &Option<Secret>) -> Option<&str> {
        secret.as_ref().and_then(Secret::expose_str)
    }

    #[test]
    fn both_cases_are_read_and_lists_are_taken_apart() {
        let proxies = read(&[
            ("HTTPS_PROXY", "http://upper:1"),
            ("https_proxy", "http://lower:1"),
            ("HTTP_PROXY", "http://upper:2"),
            ("http_proxy", ""),
            ("NO_PROXY", "a.example, .b.example  10.0.0.0/8,,"),
        ]);
        assert_eq!((text(&proxies.https), text(&proxies.http)), (Some("http://lower:1"), Some("http://upper:2")));
        assert_eq!(proxies.direct.unwrap(), ["a.example", ".b.example", "10.0.0.0/8"]);
        let none = read(&[]);
        assert!(none.https.is_none() && none.http.is_none() && none.direct.is_none());
    }

    #[test]
    fn the_file_goes_before_the_environment_and_may_say_none() {
        let mut config = UpstreamConfig { https_proxy: Some(Secret::from(String::new())), ..UpstreamConfig::default() };
        read(&[("HTTPS_PROXY", "http://e:1"), ("HTTP_PROXY", "http://e:2"), ("NO_PROXY", "a")]).fill(&mut config);
        assert_eq!((text(&config.https_proxy), text(&config.http_proxy)), (Some(""), Some("http://e:2")));
        assert_eq!(config.no_proxy.unwrap(), ["a"]);
    }
}
