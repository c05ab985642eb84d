use clap::Args;
use flotilla_aws::flotilla::{BlobState, ExplainImage, ExplainImageInput, ExplainImageOutput, PullStep, StepOutcome};
use flotilla_base::ByteLen;

use crate::{
    error::CliError,
    output::plain,
    run::{Report, Session},
};

#[derive(Args, Clone, Debug)]
#[command(after_long_help = "Examples:\n  \
    flotilla explain docker-hub/library/nginx:1.27\n  \
    flotilla explain docker-hub/library/nginx --as anonymous --from 10.1.2.3 --live\n  \
    flotilla explain library/nginx --ns docker.io\n\n\
    Exit codes: 0 the pull would succeed; else the first step that fails: 10 listener, 11 mapping, 12 rule, 13 template, \
    14 decision, 15 tag, 16 upstream, 17 blobs.")]
pub struct ExplainCommand {
    /// Image as a client pulls it
    image: String,
    /// Who pulls: an ARN, a robot's name, root or anonymous; you when left out
    #[arg(long = "as", value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// Address that the pull comes from; this machine when left out
    #[arg(long = "from", value_name = "IP")]
    source_ip: Option<String>,
    /// Registry that a mirror's client names, such as docker.io
    #[arg(long, value_name = "HOST")]
    ns: Option<String>,
    /// Through the mirror's own listener or Host
    #[arg(long)]
    mirror: bool,
    /// Ask the upstream, too
    #[arg(long)]
    live: bool,
}

/// The first step's; the others follow in their order.
const FIRST_EXIT_CODE: u8 = 10;

pub(crate) async fn run(command: ExplainCommand, session: &Session) -> Result<Report, CliError> {
    let ExplainCommand { image, principal, source_ip, ns, mirror, live } = command;
    let input = ExplainImageInput { image, principal, source_ip, namespace: ns, mirror, live };
    let explained = session.call::<ExplainImage>(&input).await?;
    let mut report = session.report(&explained, || text(&explained));
    if let Some(step) = explained.failed_step {
        report.outcome = Err(CliError::Step { name: name(step), code: FIRST_EXIT_CODE + step as u8 });
    }
    Ok(report)
}

fn text(explained: &ExplainImageOutput) -> String {
    let mut text = String::new();
    for step in &explained.steps {
        let mark = match step.outcome {
            StepOutcome::Ok => "ok",
            StepOutcome::Failed => "FAILS",
            StepOutcome::Skipped => "-",
        };
        text.push_str(&format!("{:<10}{mark:<7}{}\n", name(step.step), plain(&step.text)));
        if let Some(hint) = &step.hint {
            text.push_str(&format!("{:17}{}\n", "", plain(hint)));
        }
    }
    for blob in &explained.blobs {
        let state = match blob.state {
            BlobState::Held => "here",
            BlobState::Growing => "being fetched",
            BlobState::Fetchable => "to be fetched",
            BlobState::Missing => "LOST",
        };
        text.push_str(&format!("{:17}{}  {}  {state}\n", "", plain(&blob.digest), ByteLen(blob.size_bytes)));
    }
    text
}

fn name(step: PullStep) -> &'static str {
    match step {
        PullStep::Listener => "listener",
        PullStep::Mapping => "mapping",
        PullStep::Rule => "rule",
        PullStep::Template => "template",
        PullStep::Decision => "decision",
        PullStep::Tag => "tag",
        PullStep::Upstream => "upstream",
        PullStep::Blobs => "blobs",
    }
}

#[cfg(test)]
mod tests {
    use flotilla_aws::flotilla::ExplainedStep;

    use super::*;

    #[test]
    fn a_step_is_a_line_and_its_hint_another() {
        let step = |step, outcome, hint: Option<&str>| ExplainedStep {
            step,
            outcome,
            text: "what".into(),
            hint: hint.map(str::to_owned),
        };
        let steps = vec![
            step(PullStep::Mapping, StepOutcome::Ok, None),
            step(PullStep::Decision, StepOutcome::Failed, Some("do this")),
            step(PullStep::Blobs, StepOutcome::Skipped, None),
        ];
        let shown = text(&ExplainImageOutput { steps, ..Default::default() });
        assert_eq!(
            shown,
            "mapping   ok     what\ndecision  FAILS  what\n                 do this\nblobs     -      what\n"
        );
    }

    #[test]
    fn exit_codes_are_as_the_help_says() {
        assert_eq!(FIRST_EXIT_CODE + PullStep::Listener as u8, 10);
        assert_eq!(FIRST_EXIT_CODE + PullStep::Blobs as u8, 17);
    }
}
