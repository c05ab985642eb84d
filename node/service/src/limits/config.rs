use flotilla_base::ByteLen;
use serde::{Deserialize, Deserializer, de};

/// `[limits]` of the configuration: what callers may cause upstream. What is held is never limited.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Leading bits of an IPv4 address that make one source: 24, since one customer rarely has more neighbours.
    #[serde(deserialize_with = "prefix::<_, 32>")]
    pub ipv4_prefix: u8,
    /// As `ipv4_prefix`, for IPv6: 56, which is what one customer is given.
    #[serde(deserialize_with = "prefix::<_, 128>")]
    pub ipv6_prefix: u8,
    /// For each source network of callers without credentials.
    pub anonymous: CallerLimits,
    /// For each principal.
    #[serde(deserialize_with = "principal")]
    pub principal: CallerLimits,
}

/// What one caller may cause in a minute; so much also at once.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallerLimits {
    /// Manifests and blobs that an upstream has to be asked for. Two hundred images that a new cluster pulls are about
    /// 2,500, and only the first of all who want one causes it.
    pub misses_per_minute: Rate,
    /// Names pulled for the first time that are no repository yet.
    pub new_repositories_per_minute: Rate,
    /// Tags that are due and that a pull validates. Beyond it the held image is served as it is.
    pub revalidations_per_minute: Rate,
    /// Bytes of blobs that upstreams send. Far more than a link of 10 Gbit/s brings.
    pub upstream_bytes_per_minute: Rate,
}

/// How much in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Unlimited,
    /// 0 is nothing at all.
    PerMinute(u64),
}

impl LimitsConfig {
    const ANONYMOUS: CallerLimits = CallerLimits {
        misses_per_minute: Rate::PerMinute(6_000),
        new_repositories_per_minute: Rate::PerMinute(600),
        revalidations_per_minute: Rate::PerMinute(6_000),
        upstream_bytes_per_minute: Rate::PerMinute(120 << 30),
    };

    /// One principal may be a whole fleet.
    const PRINCIPAL: CallerLimits = CallerLimits {
        misses_per_minute: Rate::PerMinute(60_000),
        new_repositories_per_minute: Rate::PerMinute(6_000),
        revalidations_per_minute: Rate::PerMinute(60_000),
        upstream_bytes_per_minute: Rate::PerMinute(1_200 << 30),
    };
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { ipv4_prefix: 24, ipv6_prefix: 56, anonymous: Self::ANONYMOUS, principal: Self::PRINCIPAL }
    }
}

impl Default for CallerLimits {
    fn default() -> Self {
        LimitsConfig::ANONYMOUS
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            Number(u64),
            Text(String),
        }
        match Text::deserialize(deserializer)? {
            Text::Number(number) => Ok(Self::PerMinute(number)),
            Text::Text(text) if text == "unlimited" => Ok(Self::Unlimited),
            Text::Text(text) => {
                let size: ByteLen = text.parse().map_err(|_| {
                    de::Error::custom(format!("'{text}' is neither a number, nor a size, nor \"unlimited\""))
                })?;
                Ok(Self::PerMinute(size.0))
            }
        }
    }
}

fn prefix<'de, D: Deserializer<'de>, const MOST: u8>(deserializer: D) -> Result<u8, D::Error> {
    let prefix = u8::deserialize(deserializer)?;
    if prefix > MOST {
        return Err(de::Error::custom(format!("a prefix of {prefix} bits; at most {MOST}")));
    }
    Ok(prefix)
}

/// What the table of principals leaves out is as it is for principals.
fn principal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CallerLimits, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Told {
        misses_per_minute: Option<Rate>,
        new_repositories_per_minute: Option<Rate>,
        revalidations_per_minute: Option<Rate>,
        upstream_bytes_per_minute: Option<Rate>,
    }
    let told = Told::deserialize(deserializer)?;
    let default = LimitsConfig::PRINCIPAL;
    Ok(CallerLimits {
        misses_per_minute: told.misses_per_minute.unwrap_or(default.misses_per_minute),
        new_repositories_per_minute: told.new_repositories_per_minute.unwrap_or(default.new_repositories_per_minute),
        revalidations_per_minute: told.revalidations_per_minute.unwrap_or(default.revalidations_per_minute),
        upstream_bytes_per_minute: told.upstream_bytes_per_minute.unwrap_or(default.upstream_bytes_per_minute),
    })
}
