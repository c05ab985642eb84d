//! Logs: one line an event on standard error, as text for people or JSON for programs.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{LogConfig, LogFormat};

/// Libraries that speak of their own insides at `info`.
const QUIET: &str = "openraft=warn,sled=warn,hyper=warn,rustls=warn,h2=warn";

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|error| error.to_string())
}

/// # Errors
/// Why the level cannot be used.
pub fn check(config: &LogConfig) -> Result<(), String> {
    filter(&config.level).map(|_| ())
}

/// Starts logging. `FLOTILLA_LOG` wins over the configured level. A second call changes nothing.
///
/// # Errors
/// Why the level cannot be used.
pub fn start(config: &LogConfig) -> Result<(), String> {
    let level = std::env::var("FLOTILLA_LOG").unwrap_or_else(|_| config.level.clone());
    let registry = tracing_subscriber::registry().with(filter(&level)?);
    let _already = match config.format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(layer.with_writer(std::io::stderr)).try_init()
        }
    };
    Ok(())
}
