use clap::Subcommand;
use flotilla_aws::ecr::{
    DeleteRepository, DeleteRepositoryInput, DescribeRepositories, DescribeRepositoriesInput, Repository,
};
use flotilla_base::Timestamp;

use crate::{
    error::CliError,
    output::{age, plain, table},
    run::{Report, Session, paged},
};

#[derive(Subcommand, Clone, Debug)]
pub enum RepositoryCommand {
    /// List the repositories
    List,
    /// Delete a repository
    #[command(after_long_help = "A repository that a rule covers comes back with the next pull of it.")]
    Delete {
        name: String,
        /// Also when it holds images
        #[arg(long)]
        force: bool,
    },
}

paged!(DescribeRepositories, repositories);

pub(crate) async fn run(command: RepositoryCommand, session: &Session) -> Result<Report, CliError> {
    match command {
        RepositoryCommand::List => {
            let output = session.call_all::<DescribeRepositories>(DescribeRepositoriesInput::default()).await?;
            Ok(session.report(&output, || list(&output.repositories, session.now)))
        }
        RepositoryCommand::Delete { name, force } => {
            let input = DeleteRepositoryInput { repository_name: name, registry_id: None, force };
            let output = session.call::<DeleteRepository>(&input).await?;
            Ok(session.report(&output, || format!("deleted {}\n", plain(&output.repository.repository_name))))
        }
    }
}

fn list(repositories: &[Repository], now: Timestamp) -> String {
    table(
        ["REPOSITORY", "URI", "MUTABILITY", "AGE"],
        repositories.iter().map(|repository| {
            [
                repository.repository_name.clone(),
                repository.repository_uri.clone(),
                repository.image_tag_mutability.clone(),
                age(repository.created_at, now),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use crate::{
        fake_node::FakeNode,
        run::tests::{calls, execute_line},
    };

    #[tokio::test]
    async fn repositories_are_listed_as_a_table() {
        let reply = r#"{"repositories": [{"repositoryName": "docker-hub/library/nginx", "createdAt": 9e12,
            "repositoryUri": "127.0.0.1:5000/docker-hub/library/nginx", "imageTagMutability": "MUTABLE"}]}"#;
        let node = FakeNode::start(&[(200, reply)]).await;
        let report = execute_line(&node, &["repository", "list"]).await.unwrap();
        assert_eq!(
            report.text,
            "REPOSITORY                URI                                      MUTABILITY  AGE\n\
             docker-hub/library/nginx  127.0.0.1:5000/docker-hub/library/nginx  MUTABLE     0s\n"
        );
    }

    #[tokio::test]
    async fn deletion_is_forced_only_when_said() {
        let reply = r#"{"repository": {"repositoryName": "ab"}}"#;
        let node = FakeNode::start(&[(200, reply), (200, reply)]).await;
        assert_eq!(execute_line(&node, &["repository", "delete", "ab"]).await.unwrap().text, "deleted ab\n");
        execute_line(&node, &["repository", "delete", "ab", "--force"]).await.unwrap();
        let bodies: Vec<String> = calls(&node).into_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies, [r#"{"repositoryName":"ab","force":false}"#, r#"{"repositoryName":"ab","force":true}"#]);
    }
}
