//! Sign-in as the engines do it: without a login where that is enough, with a wrong one, with a robot's key where nobody
//! is anonymous; and a push, which is refused by name.

use std::process::Command;

use cluster_tests::{
    Flotilla,
    aws::Aws,
    clients::{Containerd, Docker, Tool, find, required, run},
};
use tempfile::TempDir;

use crate::{
    common::{APP, DOCKER_HUB, create_rule},
    t10_robots::Robot,
    t20_serve::Site,
};

/// What a refused push says, in the words of the registry or by its status.
const NO_PUSH: [&str; 2] = ["push and delete are not supported yet", "405"];

struct Scene {
    _site: Site,
    flotilla: Flotilla,
    robot: Robot,
}

impl Scene {
    fn new(anonymous: bool) -> Self {
        let site = Site::new(&format!("[access.anonymous]\npull = {anonymous}"));
        let flotilla = site.builder().arg("--init").start();
        create_rule(&Aws::root(&flotilla), "docker-hub", DOCKER_HUB);
        let robot = Robot::create(&flotilla, "engine", &[]);
        Self { _site: site, flotilla, robot }
    }

    fn host(&self) -> &str {
        self.flotilla.host()
    }

    fn image(&self) -> String {
        format!("{}/{APP}:latest", self.host())
    }

    /// What is not there yet: of what is, engines push nothing.
    fn new_image(&self) -> String {
        format!("{}/own/pushed:v1", self.host())
    }

    /// `USER:PASSWORD`
    fn login(&self) -> String {
        format!("{}:{}", self.robot.id, self.robot.secret)
    }
}

/// What it said when it failed.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{command:?} succeeded: {said}");
    said
}

#[track_caller]
fn push_refused(command: &mut Command) {
    let said = refused(command);
    assert!(NO_PUSH.iter().any(|text| said.contains(text)), "{said}");
}

#[test]
fn docker_signs_in() {
    let Some(docker) = required(Docker::start(), "docker with its dockerd, as root") else { return };
    for anonymous in [true, false] {
        let scene = Scene::new(anonymous);
        let image = scene.image();
        let login = |password: &str| {
            docker.command(&["login", "--username", &scene.robot.id, "--password", password, scene.host()])
        };
        if anonymous {
            docker.run(&["pull", "--quiet", &image]);
        } else {
            let said = refused(&mut docker.command(&["pull", "--quiet", &image]));
            assert!(said.contains("no basic auth credentials") || said.contains("unauthorized"), "{said}");
        }
        let said = refused(&mut login("wrong"));
        assert!(said.contains("401 Unauthorized") || said.contains("wrong user name or password"), "{said}");
        run(&mut login(&scene.robot.secret));
        docker.run(&["pull", "--quiet", &image]);
        docker.run(&["tag", &image, &scene.new_image()]);
        push_refused(&mut docker.command(&["push", &scene.new_image()]));
        docker.run(&["logout", scene.host()]);
        docker.run(&["rmi", "--force", &image]);
    }
}

struct Podman {
    tool: Tool,
    folder: TempDir,
}

impl Podman {
    fn find() -> Option<Self> {
        let (tool, folder) = (find("podman")?, TempDir::new().unwrap());
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
        std::fs::write(at("auth.json"), "{}").unwrap();
        let conf = "[engine]\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n";
        std::fs::write(at("containers.conf"), conf).unwrap();
        Some(Self { tool, folder })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let at = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(&self.tool.0);
        for (option, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(at(name));
        }
        command.args(["--storage-driver", "vfs"]).args(arguments);
        command.env("CONTAINERS_CONF", at("containers.conf")).env("REGISTRY_AUTH_FILE", at("auth.json"));
        command
    }

    fn pull(&self, image: &str) -> Command {
        let policy = self.folder.path().join("policy.json").display().to_string();
        self.command(&["pull", "--quiet", "--tls-verify=false", "--signature-policy", &policy, image])
    }
}

#[test]
fn podman_signs_in() {
    let Some(podman) = required(Podman::find(), "podman") else { return };
    for anonymous in [true, false] {
        let scene = Scene::new(anonymous);
        let login = |password: &str| {
            let user = ["--username", &scene.robot.id, "--password", password, scene.host()];
            podman.command(&[&["login", "--tls-verify=false"], &user[..]].concat())
        };
        if anonymous {
            run(&mut podman.pull(&scene.image()));
        } else {
            refused(&mut podman.pull(&scene.image()));
        }
        refused(&mut login("wrong"));
        run(&mut login(&scene.robot.secret));
        run(&mut podman.pull(&scene.image()));
        push_refused(&mut podman.command(&[
            "push",
            "--tls-verify=false",
            &scene.image(),
            &format!("docker://{}", scene.new_image()),
        ]));
        run(&mut podman.command(&["rmi", "--force", &scene.image()]));
    }
}

#[test]
fn skopeo_signs_in() {
    let Some(skopeo) = required(find("skopeo"), "skopeo") else { return };
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("auth.json"), "{}").unwrap();
    let skopeo = |arguments: &[&str]| {
        let mut command = Command::new(&skopeo.0);
        command.args(arguments).env("REGISTRY_AUTH_FILE", folder.path().join("auth.json"));
        command
    };
    for anonymous in [true, false] {
        let scene = Scene::new(anonymous);
        let image = format!("docker://{}", scene.image());
        let kept = format!("dir:{}", folder.path().join(format!("image-{anonymous}")).display());
        let copy = |creds: &[&str]| {
            skopeo(&[&["copy", "--src-tls-verify=false"], creds, &[image.as_str(), kept.as_str()]].concat())
        };
        if anonymous {
            run(&mut copy(&[]));
        } else {
            refused(&mut copy(&[]));
        }
        refused(&mut copy(&["--src-creds", &format!("{}:wrong", scene.robot.id)]));
        run(&mut copy(&["--src-creds", &scene.login()]));
        let tags = format!("docker://{}/{APP}", scene.host());
        run(&mut skopeo(&["list-tags", "--tls-verify=false", "--creds", &scene.login(), &tags]));
        let push = [
            "copy",
            "--dest-tls-verify=false",
            "--dest-creds",
            &scene.login(),
            &kept,
            &format!("docker://{}", scene.new_image()),
        ];
        push_refused(&mut skopeo(&push));
    }
}

#[test]
fn containerd_signs_in() {
    let Some(containerd) = required(Containerd::start(), "containerd, as root") else { return };
    for anonymous in [true, false] {
        let scene = Scene::new(anonymous);
        let image = scene.image();
        let pull = |user: &[&str]| {
            let plain = ["images", "pull", "--plain-http", "--snapshotter", "native"];
            containerd.command(&[&plain[..], user, &[image.as_str()]].concat())
        };
        if anonymous {
            run(&mut pull(&[]));
        } else {
            refused(&mut pull(&[]));
            refused(&mut pull(&["--user", &format!("{}:wrong", scene.robot.id)]));
        }
        run(&mut pull(&["--user", &scene.login()]));
        let user = ["--user", &scene.login(), &scene.new_image(), &image];
        push_refused(&mut containerd.command(&[&["images", "push", "--plain-http"], &user[..]].concat()));
    }
}
