use base64::{Engine, engine::general_purpose::STANDARD};
use flotilla_aws::ecr::{GetAuthorizationToken, GetAuthorizationTokenInput};

use crate::{
    error::CliError,
    run::{Report, Session},
};

pub(crate) async fn run(session: &Session) -> Result<Report, CliError> {
    let output = session.call::<GetAuthorizationToken>(&GetAuthorizationTokenInput::default()).await?;
    let token = output.authorization_data.first().ok_or(CliError::Token)?;
    let password = password(&token.authorization_token).ok_or(CliError::Token)?;
    Ok(session.report(&output, || password + "\n"))
}

/// A token is `AWS:<password>` in base64.
fn password(token: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    let password = text.strip_prefix("AWS:")?;
    let clean = !password.is_empty() && !password.chars().any(char::is_control);
    clean.then(|| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fake_node::FakeNode, run::tests::execute_line};

    #[tokio::test]
    async fn the_password_alone_is_printed() {
        let reply = r#"{"authorizationData": [{"authorizationToken": "QVdTOnBhc3M=", "expiresAt": 1.0}]}"#;
        let node = FakeNode::start(&[(200, reply), (200, r#"{"authorizationData": []}"#)]).await;
        assert_eq!(execute_line(&node, &["login-password"]).await.unwrap().text, "pass\n");
        assert!(matches!(execute_line(&node, &["login-password"]).await, Err(CliError::Token)));
    }

    #[test]
    fn other_tokens_are_refused() {
        for text in ["AWS:", "USER:pass", "AWS", "AWS:a\nb"] {
            assert_eq!(password(&STANDARD.encode(text)), None, "{text}");
        }
        assert_eq!(password("not base64!"), None);
    }
}
