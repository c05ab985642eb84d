//! Robots and access keys.

use flotilla_aws::{
    flotilla::{
        AccessKey, CreateAccessKey, CreateAccessKeyInput, CreateAccessKeyOutput, CreateRobot, CreateRobotInput,
        CreateRobotOutput, DeleteAccessKey, DeleteAccessKeyInput, DeleteAccessKeyOutput, DeleteRobot, DeleteRobotInput,
        DeleteRobotOutput, ListAccessKeys, ListAccessKeysInput, ListAccessKeysOutput, ListRobots, ListRobotsInput,
        ListRobotsOutput, NewAccessKey, Robot, UpdateAccessKey, UpdateAccessKeyInput, UpdateAccessKeyOutput,
    },
    validate::InvalidParameter,
};
use flotilla_base::Timestamp;
use flotilla_registry::{
    Glob,
    access::{self, Action, Resource},
};
use flotilla_service::NewKey;

use super::super::{Call, Failure, Handle, page::Page};

impl Handle for CreateRobot {
    const ACTION: Action = Action("flotilla:CreateRobot");

    fn resource(_: &CreateRobotInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Cluster)
    }

    async fn handle(call: Call<'_>, input: CreateRobotInput) -> Result<CreateRobotOutput, Failure> {
        let repositories = input.repositories.into_iter().map(Glob).collect();
        // Checked: no more than a few thousand years, and not before 1970.
        let expires_at = input.expires_at.map(|seconds| Timestamp((seconds * 1000.0) as u64));
        let principals = &call.services().principals;
        let (robot, key) = principals.create_robot(call.permit, &input.robot_name, repositories, expires_at).await?;
        let robot = robot_shape(robot, key.principal.to_string(), false);
        Ok(CreateRobotOutput { robot, access_key: new_key(&key) })
    }
}

impl Handle for ListRobots {
    const ACTION: Action = Action("flotilla:ListRobots");

    fn resource(_: &ListRobotsInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Cluster)
    }

    async fn handle(call: Call<'_>, input: ListRobotsInput) -> Result<ListRobotsOutput, Failure> {
        let page = Page::read::<Self>(call, input.next_token.as_deref(), input.max_results)?;
        let principals = &call.services().principals;
        let mut found = principals.list_robots(call.permit, page.after.as_deref(), page.fetch()).await?;
        let next_token = page.cut::<Self, _>(call, &mut found, |view| view.robot.name.clone())?;
        let robots = found.into_iter();
        let robots = robots.map(|view| robot_shape(view.robot, view.principal.to_string(), view.is_expired)).collect();
        Ok(ListRobotsOutput { robots, next_token })
    }
}

impl Handle for DeleteRobot {
    const ACTION: Action = Action("flotilla:DeleteRobot");

    fn resource(_: &DeleteRobotInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Cluster)
    }

    async fn handle(call: Call<'_>, input: DeleteRobotInput) -> Result<DeleteRobotOutput, Failure> {
        call.services().principals.delete_robot(call.permit, &input.robot_name).await?;
        Ok(DeleteRobotOutput {})
    }
}

impl Handle for CreateAccessKey {
    const ACTION: Action = Action("flotilla:CreateAccessKey");

    fn resource(_: &CreateAccessKeyInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Cluster)
    }

    async fn handle(call: Call<'_>, input: CreateAccessKeyInput) -> Result<CreateAccessKeyOutput, Failure> {
        let key = call.services().principals.create_key(call.permit, input.robot_name.as_deref()).await?;
        Ok(CreateAccessKeyOutput { access_key: new_key(&key) })
    }
}

impl Handle for ListAccessKeys {
    const ACTION: Action = Action("flotilla:ListAccessKeys");

    fn resource(_: &ListAccessKeysInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Cluster)
    }

    async fn handle(call: Call<'_>, input: ListAccessKeysInput) -> Result<ListAccessKeysOutput, Failure> {
        let page = Page::read::<Self>(call, input.next_token.as_deref(), input.max_results)?;
        let principals = &call.services().principals;
        let mut found = principals.list_keys(call.permit, page.after.as_deref(), page.fetch()).await?;
        let next_token = page.cut::<Self, _>(call, &mut found, |key| key.id.clone())?;
        Ok(ListAccessKeysOutput { access_keys: found.iter().map(key_shape).collect(), next_token })
    }
}

impl Handle for UpdateAccessKey {
    const ACTION: Action = Action("flotilla:UpdateAccessKey");

    fn resource(_: &UpdateAccessKeyInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Cluster)
    }

    async fn handle(call: Call<'_>, input: UpdateAccessKeyInput) -> Result<UpdateAccessKeyOutput, Failure> {
        let enabled = input.enabled.ok_or_else(|| InvalidParameter::new("enabled", "must not be null"))?;
        let principals = &call.services().principals;
        let key = principals.set_key_enabled(call.permit, &input.access_key_id, enabled).await?;
        Ok(UpdateAccessKeyOutput { access_key: key_shape(&key) })
    }
}

impl Handle for DeleteAccessKey {
    const ACTION: Action = Action("flotilla:DeleteAccessKey");

    fn resource(_: &DeleteAccessKeyInput) -> Result<Resource, InvalidParameter> {
        Ok(Resource::Cluster)
    }

    async fn handle(call: Call<'_>, input: DeleteAccessKeyInput) -> Result<DeleteAccessKeyOutput, Failure> {
        call.services().principals.delete_key(call.permit, &input.access_key_id).await?;
        Ok(DeleteAccessKeyOutput {})
    }
}

fn new_key(key: &NewKey) -> NewAccessKey {
    NewAccessKey {
        access_key_id: key.id.clone(),
        secret_access_key: key.secret.expose_str().unwrap_or_default().to_owned(),
        principal_arn: key.principal.to_string(),
    }
}

fn key_shape(key: &access::AccessKey) -> AccessKey {
    AccessKey {
        access_key_id: key.id.clone(),
        principal_arn: key.principal.to_string(),
        robot_name: key.principal.user_name().map(str::to_owned),
        enabled: key.enabled,
        created_at: key.created_at.seconds(),
    }
}

fn robot_shape(robot: access::Robot, principal_arn: String, expired: bool) -> Robot {
    Robot {
        robot_name: robot.name,
        principal_arn,
        repositories: robot.repositories.into_iter().map(|glob| glob.0).collect(),
        expires_at: robot.expires_at.map(Timestamp::seconds),
        expired,
        created_at: robot.created_at.seconds(),
    }
}
