//! Logs: one line an event on standard error, as text for people or JSON for programs.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

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

/// What is logged, while the node runs.
pub struct LogLevel {
    handle: reload::Handle<EnvFilter, Registry>,
    /// `FLOTILLA_LOG` wins, also over later values.
    fixed: bool,
}

/// A level that says nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnusableLevel(String);

impl LogLevel {
    /// # Errors
    /// Why the level cannot be used; the former counts on.
    pub fn set(&self, level: &str) -> Result<(), UnusableLevel> {
        let filter = filter(level).map_err(UnusableLevel)?;
        if !self.fixed {
            self.handle.reload(filter).map_err(|error| UnusableLevel(error.to_string()))?;
        }
        Ok(())
    }
}

/// Starts logging. `FLOTILLA_LOG` wins over the configured level. A second call changes nothing.
///
/// # Errors
/// Why the level cannot be used.
pub fn start(config: &LogConfig) -> Result<LogLevel, String> {
    let given = std::env::var("FLOTILLA_LOG").ok();
    let (layer, handle) = reload::Layer::new(filter(given.as_deref().unwrap_or(&config.level))?);
    let registry = tracing_subscriber::registry().with(layer);
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
    Ok(LogLevel { handle, fixed: given.is_some() })
}
