use std::{fs, net::TcpStream, path::Path, process::Command};

use tempfile::TempDir;

use super::{Daemon, Tool, find, free_port};

/// nginx with sendfile over a folder: how fast this machine can serve files at all.
pub struct Nginx {
    daemon: Daemon,
    port: u16,
    _folder: TempDir,
}

impl Nginx {
    pub fn find() -> Option<Tool> {
        find("nginx")
    }

    pub fn start(tool: &Tool, root: &Path) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let here = folder.path().display();
        let config = format!(
            "daemon off; worker_processes auto; pid {here}/pid; error_log {here}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n\
             client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n\
             server {{ listen 127.0.0.1:{port} backlog=1024; root {}; }} }}\n",
            root.display()
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("a configuration file");
        // Its workers may run as another user.
        open(folder.path());
        open(root);
        let mut command = Command::new(&tool.0);
        command.arg("-c").arg(&file).arg("-p").arg(folder.path());
        let daemon = Daemon::start(&mut command, folder.path(), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { daemon, port, _folder: folder }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}

fn open(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("a folder of ours");
}
