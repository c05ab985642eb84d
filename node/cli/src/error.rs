use std::{error::Error, fmt, io, path::PathBuf, process::ExitCode};

use crate::{
    client::CallError,
    settings::{CredentialsError, EndpointError},
    transport::TransportError,
};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{0}\nkeys: {1}; `eval \"$(flotilla env)\"` uses those of the node that `flotilla dev` started")]
    UnknownKeys(CallError, String),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Invalid(#[from] flotilla_aws::validate::InvalidParameter),
    /// What was explained fails at a step; the report is on standard output.
    #[error("the pull would fail at the step '{name}'")]
    Step { name: &'static str, code: u8 },
    /// The call went well, but what it reports is a failure; the report is on standard output.
    #[error("{0}")]
    Outcome(String),
    #[error("no node in {} became ready within {waited_s} s: start one with `flotilla dev`", data.display())]
    NotReady { data: PathBuf, waited_s: u64 },
    #[error("cannot read {}", path.display())]
    ReadFile { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    WriteFile { path: PathBuf, source: io::Error },
    #[error("cannot find the working directory")]
    WorkingDirectory(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
    #[error("the node's token is not one of docker's form")]
    Token,
    #[error("the node sent more pages than it can have")]
    Pages,
}

impl CliError {
    /// 1: the node refused or failed. 2: the command was wrong. 3: no node answered.
    pub fn code(&self) -> u8 {
        match self {
            Self::Step { code, .. } => *code,
            Self::Call(CallError::Transport(error)) | Self::Transport(error) => match error {
                TransportError::Connect { .. }
                | TransportError::Handshake { .. }
                | TransportError::Exchange { .. }
                | TransportError::TimedOut { .. } => 3,
                TransportError::TooLarge { .. } => 1,
                TransportError::ReadCertificates { .. } | TransportError::NoCertificate(_) | TransportError::Tls(_) => {
                    2
                }
            },
            Self::Call(CallError::NotANode { .. }) | Self::NotReady { .. } => 3,
            Self::Call(CallError::Sign(_))
            | Self::Credentials(_)
            | Self::Endpoint(_)
            | Self::Usage(_)
            | Self::Invalid(_)
            | Self::ReadFile { .. }
            | Self::WriteFile { .. }
            | Self::WorkingDirectory(_) => 2,
            Self::Call(_)
            | Self::Runtime(_)
            | Self::UnknownKeys(..)
            | Self::Outcome(_)
            | Self::Write(_)
            | Self::Token
            | Self::Pages => 1,
        }
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// The error and all that caused it, in one line for a terminal.
    pub fn chain(&self) -> String {
        use fmt::Write;

        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            // Hyper's errors repeat their causes; a line says each thing once.
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                let _ = write!(text, ": {cause_text}");
            }
            source = cause.source();
        }
        crate::output::plain_lines(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_whose_fault_it_was() {
        let service = CallError::Service { code: "X".into(), message: "y".into(), request_id: None };
        assert_eq!(CliError::Call(service).code(), 1);
        assert_eq!(CliError::Usage("x".into()).code(), 2);
        let endpoint: crate::Endpoint = "http://x".parse().unwrap();
        let timeout = TransportError::TimedOut { endpoint, after: std::time::Duration::from_secs(1) };
        assert_eq!(CliError::Call(timeout.into()).code(), 3);
    }

    #[test]
    fn chains_name_every_cause_once_and_carry_no_escapes() {
        let error = CliError::ReadFile { path: "/x".into(), source: io::Error::other("bad\u{1b}[2J") };
        assert_eq!(error.chain(), "cannot read /x: bad\u{fffd}[2J");
    }
}
