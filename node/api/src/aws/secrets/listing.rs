use flotilla_aws::{
    secretsmanager::{Filter, ListSecrets, ListSecretsInput, ListSecretsOutput, SecretListEntry},
    validate::InvalidParameter,
};
use flotilla_registry::{
    access::{Action, Resource},
    secret::Secret,
};

use super::{
    super::{Call, Failure, Handle, page::Page, shapes::resource_tags_shape},
    stages,
};

impl Handle for ListSecrets {
    const ACTION: Action = Action("secretsmanager:ListSecrets");

    fn resource(_: &ListSecretsInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Registry)
    }

    async fn handle(call: Call<'_>, input: ListSecretsInput) -> Result<ListSecretsOutput, Failure> {
        let page = Page::read::<Self>(call, input.next_token.as_deref(), input.max_results)?;
        let (filters, deleted) = (input.filters.unwrap_or_default(), input.include_planned_deletion == Some(true));
        let meets = |secret: &Secret| {
            (deleted || !secret.is_deleted()) && filters.iter().all(|filter| meets_filter(filter, secret))
        };
        let mut secrets = call.services().secrets.list(call.permit, meets)?;
        let descending = input.sort_order.as_deref() == Some("desc");
        if descending {
            secrets.reverse();
        }
        if let Some(after) = &page.after {
            secrets.retain(|secret| if descending { secret.name < *after } else { secret.name > *after });
        }
        let next_token = page.cut::<Self, _>(call, &mut secrets, |secret| secret.name.clone())?;
        let entry = |secret| entry(call, secret);
        Ok(ListSecretsOutput { secret_list: secrets.into_iter().map(entry).collect(), next_token })
    }
}

fn entry(call: Call<'_>, secret: Secret) -> SecretListEntry {
    SecretListEntry {
        arn: call.secret_arn(&secret),
        tags: resource_tags_shape(&secret.tags),
        secret_versions_to_stages: stages(&secret),
        name: secret.name,
        description: secret.description,
        kms_key_id: secret.kms_key_id,
        rotation_enabled: false,
        last_changed_date: secret.changed_at.seconds(),
        deleted_date: secret.deletion.map(|deletion| deletion.requested_at.seconds()),
        created_date: secret.created_at.seconds(),
    }
}

fn meets_filter(filter: &Filter, secret: &Secret) -> bool {
    filter.values.iter().any(|value| match value.strip_prefix('!') {
        Some(value) => !meets_value(&filter.key, value, secret),
        None => meets_value(&filter.key, value, secret),
    })
}

/// By their beginning: names and tags with their case, descriptions and `all` without it.
fn meets_value(key: &str, value: &str, secret: &Secret) -> bool {
    let mut keys = secret.tags.keys();
    let mut values = secret.tags.values();
    let words = |text: &str| {
        let (text, value) = (text.to_lowercase(), value.to_lowercase());
        text.starts_with(&value)
            || text.split([' ', '/', '_', '=', '+', '.', '@', '-']).any(|word| word.starts_with(&value))
    };
    match key {
        "name" => secret.name.starts_with(value),
        "description" => secret.description.as_deref().is_some_and(words),
        "tag-key" => keys.any(|key| key.starts_with(value)),
        "tag-value" => values.any(|found| found.starts_with(value)),
        "all" => {
            let texts = [Some(secret.name.as_str()), secret.description.as_deref()];
            texts.into_iter().flatten().chain(keys.map(String::as_str)).chain(values.map(String::as_str)).any(words)
        }
        // No secret has an owning service, or a primary region that is not its own.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use flotilla_base::Timestamp;

    use super::*;

    #[test]
    fn filters_go_by_beginnings_and_may_be_turned_around() {
        let secret = Secret {
            name: "ecr-pullthroughcache/team/hub".into(),
            suffix: "AbCd12".into(),
            description: Some("Robot of the build farm".into()),
            kms_key_id: None,
            tags: BTreeMap::from([("env".to_owned(), "Prod".to_owned())]),
            versions: Vec::new(),
            created_at: Timestamp(0),
            changed_at: Timestamp(0),
            deletion: None,
            pinned_host: None,
            revision: 1,
        };
        for (key, values, met) in [
            ("name", &["ecr-pullthroughcache/team"][..], true),
            ("name", &["ECR"], false),
            ("name", &["x", "ecr"], true),
            ("name", &["!ecr"], false),
            ("name", &["!x"], true),
            ("description", &["build"], true),
            ("description", &["uild"], false),
            ("tag-key", &["env"], true),
            ("tag-value", &["Pro"], true),
            ("tag-value", &["pro"], false),
            ("all", &["hub"], true),
            ("all", &["prod"], true),
            ("all", &["nothing"], false),
            ("owning-service", &["x"], false),
        ] {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            assert_eq!(meets_filter(&Filter { key: key.into(), values }, &secret), met, "{key}");
        }
    }
}
