//! Programs of other people: what users pull with, and what is measured beside us. Each handle owns its folder and its
//! processes; nothing touches the machine's own daemons or configuration.

mod containerd;
mod docker;
mod nginx;
mod python;
mod registry;
mod tool;

pub use containerd::Containerd;
pub use docker::Docker;
pub use nginx::Nginx;
pub use python::Python;
pub use registry::Registry;
pub use tool::{Daemon, Tool, find, free_port, is_root, required, run};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, Upstream};

    /// The engines with nothing of ours in between: when this fails, it is the machine or the images.
    #[test]
    fn engines_pull_the_images_of_the_scripted_upstream() {
        let upstream = Upstream::start();
        let index = Image::index(vec![Image::oci(1, &[90_000, 10]), Image::oci_for("arm64", 2, &[90_000])]);
        upstream.put("library/app", "v1", &index);
        upstream.put("library/docker", "v1", &Image::docker(3, &[90_000]));
        let references = ["app", "docker"].map(|name| format!("{}/library/{name}:v1", upstream.host()));
        if let Some(docker) = required(Docker::start(), "docker with its dockerd, as root") {
            for reference in &references {
                docker.run(&["pull", "--quiet", reference]);
            }
        }
        if let Some(containerd) = required(Containerd::start(), "containerd, as root") {
            for reference in &references {
                containerd.run(&["images", "pull", "--plain-http", "--snapshotter", "native", reference]);
            }
        }
    }
}
