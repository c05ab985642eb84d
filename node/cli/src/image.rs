use clap::Subcommand;
use flotilla_aws::ecr::{DescribeImages, DescribeImagesInput, ImageDetail};
use flotilla_base::{ByteLen, Timestamp};

use crate::{
    error::CliError,
    output::{age, short_digest, table},
    run::{Report, Session, paged},
};

#[derive(Subcommand, Clone, Debug)]
pub enum ImageCommand {
    /// List the images of a repository, newest first
    List {
        /// Name of the repository
        repository: String,
    },
}

paged!(DescribeImages, image_details);

pub(crate) async fn run(command: ImageCommand, session: &Session) -> Result<Report, CliError> {
    let ImageCommand::List { repository } = command;
    let input = DescribeImagesInput { repository_name: repository, ..Default::default() };
    let output = session.call_all::<DescribeImages>(input).await?;
    Ok(session.report(&output, || list(&output.image_details, session.now)))
}

fn list(images: &[ImageDetail], now: Timestamp) -> String {
    let mut images: Vec<&ImageDetail> = images.iter().collect();
    images.sort_by(|a, b| b.image_pushed_at.total_cmp(&a.image_pushed_at));
    table(
        ["TAGS", "DIGEST", "SIZE", "AGE", "LAST PULL"],
        images.into_iter().map(|image| {
            [
                image.image_tags.as_ref().map_or_else(|| "-".into(), |tags| tags.join(",")),
                short_digest(&image.image_digest),
                image.image_size_in_bytes.map_or_else(|| "-".into(), |bytes| ByteLen(bytes).to_string()),
                age(image.image_pushed_at, now),
                image.last_recorded_pull_time.map_or_else(|| "-".into(), |then| age(then, now)),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_newest_first() {
        let now = Timestamp(10_000_000_000);
        let image = |digest: &str, pushed: f64| ImageDetail {
            image_digest: digest.into(),
            image_pushed_at: pushed,
            ..Default::default()
        };
        let tagged = ImageDetail {
            image_tags: Some(vec!["latest".into(), "1.27".into()]),
            image_size_in_bytes: Some(71_000_000),
            last_recorded_pull_time: Some(9_999_990.0),
            ..image("sha256:0123456789abcdef0123", 9_992_800.0)
        };
        assert_eq!(
            list(&[image("sha256:ff", 9_000_000.0), tagged], now),
            "TAGS         DIGEST               SIZE      AGE  LAST PULL\n\
             latest,1.27  sha256:0123456789ab  67.7 MiB  2h   10s\n\
             -            sha256:ff            -         11d  -\n"
        );
    }
}
