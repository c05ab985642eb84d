//! Puts files where an engine reads them, and takes them away again. Each change is whole or not at all, and what was
//! there before is kept beside it, as `NAME.before-flotilla`; an empty one says that there was nothing.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{
    containerd, docker, k3s,
    plan::{Content, Engine, File, MARK},
    podman,
};
use crate::error::CliError;

const BACKUP: &str = ".before-flotilla";
const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// What became of a file.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) outcome: &'static str,
    pub(super) path: PathBuf,
}

/// Writes `file` below `folder`. Doing it again changes nothing.
pub(super) fn install(folder: &Path, file: &File) -> Result<Done, CliError> {
    let path = real(folder.join(&file.name));
    let backup = backup_of(&path);
    let (existing, before) = (read(&path)?, read(&backup)?);
    let text = match &file.content {
        Content::Whole(text) => text.clone(),
        Content::DockerMirrors(mirrors) => {
            docker::merge(existing.as_deref(), before.as_deref(), mirrors).map_err(|error| malformed(&path, &error))?
        }
    };
    let mode = if file.private { PRIVATE } else { mode(&path).unwrap_or(PUBLIC) };
    if existing.as_deref() == Some(&text) && mode_is(&path, mode) {
        return Ok(Done { outcome: "unchanged", path });
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|source| CliError::WriteFile { path: parent.to_owned(), source })?;
    }
    // A file that carries no mark of ours was put there since: then that is what was there before.
    let theirs =
        existing.as_deref().filter(|text| matches!(file.content, Content::Whole(_)) && !text.starts_with(MARK));
    if before.is_none() || theirs.is_some() {
        put(&backup, existing.as_deref().unwrap_or_default(), self::mode(&path).unwrap_or(PRIVATE))?;
    }
    put(&path, &text, mode)?;
    Ok(Done { outcome: if existing.is_some() { "replaced" } else { "wrote" }, path })
}

/// Puts back what was below `folder` before.
pub(super) fn remove(engine: Engine, folder: &Path) -> Result<Vec<Done>, CliError> {
    let mut names = match engine {
        Engine::Docker => vec![docker::FILE.to_owned()],
        Engine::Podman | Engine::Crio => vec![podman::FILE.to_owned()],
        Engine::K3s => vec![k3s::FILE.to_owned()],
        Engine::Containerd => {
            let entries =
                fs::read_dir(folder).map_err(|source| CliError::ReadFile { path: folder.to_owned(), source })?;
            let registries = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            registries.map(|registry| format!("{registry}/{}", containerd::FILE)).collect()
        }
    };
    names.sort();
    let mut done = Vec::new();
    for name in names {
        let path = real(folder.join(name));
        let backup = backup_of(&path);
        if let Some(before) = read(&backup)? {
            done.push(restore(engine, path, &backup, &before)?);
        }
    }
    if done.is_empty() {
        return Err(CliError::Outcome(format!("nothing in {} was written by this command", folder.display())));
    }
    Ok(done)
}

fn restore(engine: Engine, path: PathBuf, backup: &Path, before: &str) -> Result<Done, CliError> {
    let existing = read(&path)?;
    let gone = |error| CliError::WriteFile { path: backup.to_owned(), source: error };
    if engine == Engine::Docker
        && let Some(existing) = &existing
    {
        if let Some(rest) = docker::unmerge(existing, before).map_err(|error| malformed(&path, &error))? {
            put(&path, &rest, mode(&path).unwrap_or(PUBLIC))?;
            fs::remove_file(backup).map_err(gone)?;
            return Ok(Done { outcome: "taken out of", path });
        }
    } else if existing.as_ref().is_some_and(|text| !text.starts_with(MARK)) {
        let text = format!(
            "{} was changed by somebody else; what was there before is in {}",
            path.display(),
            backup.display()
        );
        return Err(CliError::Outcome(text));
    }
    if before.is_empty() {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(CliError::WriteFile { path, source });
            }
            _ => fs::remove_file(backup).map_err(gone)?,
        }
        // containerd's folder of one registry; one that holds something else stays.
        if let (Engine::Containerd, Some(folder)) = (engine, path.parent()) {
            let _ = fs::remove_dir(folder);
        }
        return Ok(Done { outcome: "removed", path });
    }
    rename(backup, &path)?;
    Ok(Done { outcome: "restored", path })
}

/// A link stays a link.
fn real(path: PathBuf) -> PathBuf {
    fs::canonicalize(&path).unwrap_or(path)
}

fn backup_of(path: &Path) -> PathBuf {
    beside(path, "", BACKUP)
}

fn beside(path: &Path, before: &str, after: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{before}{name}{after}"))
}

fn read(path: &Path) -> Result<Option<String>, CliError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CliError::ReadFile { path: path.to_owned(), source }),
    }
}

fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|meta| meta.permissions().mode() & 0o777)
}

fn mode_is(path: &Path, wanted: u32) -> bool {
    mode(path) == Some(wanted)
}

/// Whole or not at all, also when the machine stops: a new file, synced, takes the place of the old one.
fn put(path: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    let new = beside(path, ".", &format!(".new-{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        // Past the umask.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    let written = write().map_err(|source| CliError::WriteFile { path: new.clone(), source });
    let placed = written.and_then(|()| rename(&new, path));
    if placed.is_err() {
        let _ = fs::remove_file(&new);
    }
    placed
}

fn rename(from: &Path, to: &Path) -> Result<(), CliError> {
    let moved = fs::rename(from, to).and_then(|()| match to.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    });
    moved.map_err(|source| CliError::WriteFile { path: to.to_owned(), source })
}

fn malformed(path: &Path, error: &serde_json::Error) -> CliError {
    CliError::Outcome(format!("{} is not a JSON object, nothing was changed: {error}", path.display()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Gone with the test.
    pub(in crate::mirror) struct Folder(PathBuf);

    impl Folder {
        pub(in crate::mirror) fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("flotilla-mirror-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        pub(in crate::mirror) fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn whole(name: &str, text: &str, private: bool) -> File {
        File { name: name.to_owned(), content: Content::Whole(format!("{MARK}{text}")), private }
    }

    fn outcomes(done: Result<Vec<Done>, CliError>) -> Vec<&'static str> {
        done.unwrap().into_iter().map(|done| done.outcome).collect()
    }

    fn files(folder: &Folder) -> usize {
        fs::read_dir(&folder.0).unwrap().count()
    }

    #[test]
    fn writing_twice_is_writing_once_and_removing_leaves_nothing() {
        let folder = Folder::new("nothing");
        let file = whole("_default/hosts.toml", "a", false);
        assert_eq!(install(&folder.0, &file).unwrap().outcome, "wrote");
        assert_eq!(install(&folder.0, &file).unwrap().outcome, "unchanged");
        assert_eq!(install(&folder.0, &whole("_default/hosts.toml", "b", false)).unwrap().outcome, "replaced");
        assert_eq!(outcomes(remove(Engine::Containerd, &folder.0)), ["removed"]);
        assert_eq!(files(&folder), 0);
        assert!(remove(Engine::Containerd, &folder.0).is_err());
    }

    #[test]
    fn what_was_there_comes_back_to_the_byte_and_the_bit() {
        let folder = Folder::new("before");
        let path = folder.path(podman::FILE);
        fs::write(&path, "theirs\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        for text in ["a", "b"] {
            assert_eq!(install(&folder.0, &whole(podman::FILE, text, false)).unwrap().outcome, "replaced");
        }
        assert!(mode_is(&path, 0o640));
        assert_eq!(outcomes(remove(Engine::Podman, &folder.0)), ["restored"]);
        assert_eq!(
            (fs::read_to_string(&path).unwrap().as_str(), mode(&path), files(&folder)),
            ("theirs\n", Some(0o640), 1)
        );
    }

    #[test]
    fn what_somebody_else_wrote_since_is_kept() {
        let folder = Folder::new("since");
        let path = folder.path(k3s::FILE);
        install(&folder.0, &whole(k3s::FILE, "a", false)).unwrap();
        fs::write(&path, "by hand\n").unwrap();
        assert!(matches!(remove(Engine::K3s, &folder.0), Err(CliError::Outcome(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "by hand\n");
        install(&folder.0, &whole(k3s::FILE, "a", false)).unwrap();
        assert_eq!(outcomes(remove(Engine::K3s, &folder.0)), ["restored"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "by hand\n");
    }

    #[test]
    fn a_file_with_a_login_is_its_owners_alone() {
        let folder = Folder::new("private");
        install(&folder.0, &whole("quay.io/hosts.toml", "a", false)).unwrap();
        assert!(mode_is(&folder.path("quay.io/hosts.toml"), 0o644));
        install(&folder.0, &whole("quay.io/hosts.toml", "a", true)).unwrap();
        assert!(mode_is(&folder.path("quay.io/hosts.toml"), 0o600));
    }

    #[test]
    fn a_daemon_json_is_merged_and_restored_or_only_taken_out_of() {
        let folder = Folder::new("docker");
        let path = folder.path(docker::FILE);
        let before = "{\"debug\":true}";
        fs::write(&path, before).unwrap();
        let ours = File {
            name: docker::FILE.into(),
            content: Content::DockerMirrors(vec!["http://a:1".into()]),
            private: false,
        };
        install(&folder.0, &ours).unwrap();
        assert_eq!(install(&folder.0, &ours).unwrap().outcome, "unchanged");
        assert_eq!(outcomes(remove(Engine::Docker, &folder.0)), ["restored"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
        install(&folder.0, &ours).unwrap();
        let edited = fs::read_to_string(&path).unwrap().replacen('{', "{\"ipv6\": true,", 1);
        fs::write(&path, edited).unwrap();
        assert_eq!(outcomes(remove(Engine::Docker, &folder.0)), ["taken out of"]);
        let left: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(left, serde_json::json!({"debug": true, "ipv6": true}));
        fs::write(&path, "{ broken").unwrap();
        assert!(install(&folder.0, &ours).is_err());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), files(&folder)), ("{ broken", 1));
    }
}
