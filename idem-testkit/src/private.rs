//! Servers that a test process starts for itself, from the programs that are installed.
//!
//! One of a kind serves all tests of the process. A shell stands by as its watchdog: it reads from a pipe that this
//! process holds open and never writes to, so it learns of the end of the process whatever that end is, stops the
//! server and removes its folder. Rust runs no destructor of a static, and nothing at all after a SIGKILL.
//!
//! Making a data directory takes longer than anything else, so it is made once for a user and a version of the server,
//! in the folder for temporary files, and copied from there.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::unique;

/// A server that ends with this process.
#[derive(Debug)]
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
    expect(dead_code, reason = "nothing is kept where there are no labs")
)]
pub(crate) struct Private {
    url: String,
    folder: PathBuf,
    /// How to start it again, in a shell.
    command: String,
    /// Holds the pipe whose end tells that this process is gone.
    _watchdog: Child,
}

/// Returns the PostgreSQL of this process, or why there is none.
pub(crate) fn postgres() -> Result<&'static Private, &'static str> {
    static SERVER: OnceLock<Result<Private, String>> = OnceLock::new();
    once(&SERVER, Postgres::find)
}

/// Returns the MariaDB of this process, or why there is none.
pub(crate) fn mysql() -> Result<&'static Private, &'static str> {
    static SERVER: OnceLock<Result<Private, String>> = OnceLock::new();
    once(&SERVER, MariaDb::find)
}

fn once<P: Programs>(
    server: &'static OnceLock<Result<Private, String>>,
    find: fn() -> Result<P, String>,
) -> Result<&'static Private, &'static str> {
    server.get_or_init(|| start(&find()?)).as_ref().map_err(String::as_str)
}

impl Private {
    /// Returns the address, with a user who may do everything.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Leaves the data where they are when the server stops, even if other tests pass; returns the command that starts it again.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn keep(&self) -> io::Result<&str> {
        fs::write(self.folder.join("keep"), "")?;
        Ok(&self.command)
    }
}

/// What is particular to a kind of server.
trait Programs {
    const NAME: &'static str;
    /// The signal that ends the server and all its processes at once.
    const QUIT: &'static str;
    /// What its log says when it takes connections.
    const READY: &'static str;

    /// The program that serves.
    fn server(&self) -> &Path;
    /// The command that makes a data directory, less its environment.
    fn init(&self, data: &Path) -> Command;
    /// The arguments that serve from `folder`, whose data are in `data` there.
    fn arguments(&self, folder: &Path, port: u16) -> io::Result<Vec<OsString>>;
    fn url(port: u16) -> String;
}

struct Postgres {
    bin: PathBuf,
    server: PathBuf,
}

impl Postgres {
    fn find() -> Result<Self, String> {
        let on_path = find_program(&["postgres"], &[]).and_then(|found| fs::canonicalize(found).ok());
        let on_path = on_path.as_deref().and_then(Path::parent).map(Path::to_owned);
        let mut installed: Vec<PathBuf> = ["/usr/lib/postgresql", "/usr"]
            .iter()
            .filter_map(|parent| fs::read_dir(parent).ok())
            .flat_map(|entries| entries.flatten().map(|entry| entry.path().join("bin")))
            .filter(|bin| version_of(bin).is_some())
            .collect();
        installed.sort_by_key(|bin| std::cmp::Reverse(version_of(bin)));
        on_path
            .into_iter()
            .chain(installed)
            .find(|bin| bin.join("postgres").is_file() && bin.join("initdb").is_file())
            .map(|bin| Self { server: bin.join("postgres"), bin })
            .ok_or_else(|| String::from("`postgres` and `initdb` are not installed"))
    }
}

/// Reads the version from `/usr/lib/postgresql/15/bin`, which is Debian's, or `/usr/pgsql-15/bin`, which is PGDG's.
fn version_of(bin: &Path) -> Option<u32> {
    let folder = bin.parent()?;
    let name = folder.file_name()?.to_str()?;
    let number = if folder.parent()? == Path::new("/usr") { name.strip_prefix("pgsql-")? } else { name };
    // Versions before 10 have two numbers.
    number.split('.').next()?.parse().ok()
}

impl Programs for Postgres {
    const NAME: &'static str = "postgres";
    const QUIT: &'static str = "QUIT";
    const READY: &'static str = "ready to accept connections";

    fn server(&self) -> &Path {
        &self.server
    }

    fn init(&self, data: &Path) -> Command {
        let mut init = Command::new(self.bin.join("initdb"));
        init.arg("-D").arg(data).args([
            "--username=idem",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        init
    }

    fn arguments(&self, folder: &Path, port: u16) -> io::Result<Vec<OsString>> {
        let mut arguments = vec!["-D".into(), folder.join("data").into()];
        let settings = [
            "listen_addresses=127.0.0.1",
            // The path of a socket may be no longer than some hundred bytes, and a folder's can.
            "unix_socket_directories=",
            "max_connections=400",
            "fsync=off",
            &format!("port={port}"),
        ];
        arguments.extend(settings.iter().flat_map(|setting| [OsString::from("-c"), setting.into()]));
        Ok(arguments)
    }

    fn url(port: u16) -> String {
        format!("postgres://idem@127.0.0.1:{port}/postgres")
    }
}

struct MariaDb {
    install: PathBuf,
    server: PathBuf,
}

impl MariaDb {
    fn find() -> Result<Self, String> {
        // Debian keeps servers where an ordinary user's PATH does not lead.
        let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
        let install = find_program(&["mariadb-install-db"], &sbin);
        let server = find_program(&["mariadbd"], &sbin);
        match (install, server) {
            (Some(install), Some(server)) => Ok(Self { install, server }),
            _ => Err(String::from("`mariadbd` and `mariadb-install-db` are not installed")),
        }
    }
}

/// The default is 96 MiB, which would be copied for every test process.
const REDO_LOG: &str = "--innodb-log-file-size=10M";

impl Programs for MariaDb {
    const NAME: &'static str = "mariadb";
    const QUIT: &'static str = "KILL";
    const READY: &'static str = "ready for connections";

    fn server(&self) -> &Path {
        &self.server
    }

    fn init(&self, data: &Path) -> Command {
        let mut init = Command::new(&self.install);
        init.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", REDO_LOG]);
        init.arg(option("--datadir=", data));
        init
    }

    fn arguments(&self, folder: &Path, port: u16) -> io::Result<Vec<OsString>> {
        let setup = folder.join("setup.sql");
        fs::write(
            &setup,
            "CREATE DATABASE IF NOT EXISTS idem;\n\
             CREATE USER IF NOT EXISTS 'idem'@'127.0.0.1';\n\
             GRANT ALL PRIVILEGES ON *.* TO 'idem'@'127.0.0.1' WITH GRANT OPTION;\n",
        )?;
        fs::set_permissions(&setup, fs::Permissions::from_mode(0o644))?;
        let mut arguments: Vec<OsString> = [
            "--no-defaults",
            "--bind-address=127.0.0.1",
            // Relative to the data directory.
            "--socket=socket",
            "--pid-file=pid",
            "--skip-name-resolve",
            "--max-connections=400",
            // Debian's character set; MariaDB's own default is latin1.
            "--character-set-server=utf8mb4",
            "--collation-server=utf8mb4_general_ci",
            "--debug-no-sync",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
            REDO_LOG,
        ]
        .iter()
        .map(OsString::from)
        .collect();
        arguments.push(option("--datadir=", &folder.join("data")));
        arguments.push(option("--init-file=", &setup));
        arguments.push(format!("--port={port}").into());
        Ok(arguments)
    }

    fn url(port: u16) -> String {
        format!("mysql://idem@127.0.0.1:{port}/idem")
    }
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

/// Looks for a program in PATH, then in `more`.
fn find_program(names: &[&str], more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(more.iter().map(PathBuf::from))
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|program| program.is_file())
}

/// Attempts at a port; another process can take it between our asking for a free one and the server's using it.
const ATTEMPTS: u32 = 5;

/// How long a server may take until it takes connections.
const START_LIMIT: Duration = Duration::from_secs(30);

fn start<P: Programs>(programs: &P) -> Result<Private, String> {
    for _ in 0..ATTEMPTS {
        if let Some(server) =
            start_once(programs).map_err(|why| format!("{} did not start: {why}", P::NAME))?
        {
            return Ok(server);
        }
    }
    Err(format!("{} found no free port", P::NAME))
}

/// Starts a server; `None` if its port was gone.
fn start_once<P: Programs>(programs: &P) -> Result<Option<Private>, String> {
    let base = std::env::temp_dir();
    let folder = base.join(unique(&format!("idem_{}", P::NAME)));
    let owner = Owner::make(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut half_made = RemoveUnlessDone(Some(folder.clone()));

    let version = version(programs.server(), &folder)?;
    let name = format!("idem_template_{}_{version}_uid{}", P::NAME, owner.me);
    copy_of_template(&base.join(name), &folder.join("data"), owner, |data, home| {
        output(programs.init(data), home, owner).map(drop)
    })?;
    let port = free_port().map_err(|e| e.to_string())?;
    let arguments = programs.arguments(&folder, port).map_err(|e| e.to_string())?;

    let mut watchdog = Command::new("/bin/sh");
    watchdog.args(["-c", WATCHDOG, "idem-watchdog"]).arg(&folder).arg(P::QUIT);
    watchdog.arg(programs.server()).args(&arguments);
    owner.confine(&mut watchdog, &folder);
    // In a process group of its own, so that Ctrl-C reaches the tests alone. It holds none of their outputs:
    // whoever reads these would wait for the watchdog too.
    watchdog.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut watchdog = watchdog.spawn().map_err(|e| format!("/bin/sh: {e}"))?;
    half_made.0 = None;

    if let Err(why) = wait_until_ready(&folder, P::READY) {
        drop(watchdog.stdin.take());
        // It has nothing left to do but to clean up.
        let _ = watchdog.wait();
        return if why.to_lowercase().contains("address already in use") { Ok(None) } else { Err(why) };
    }
    let words = [programs.server().as_os_str()].into_iter().chain(arguments.iter().map(|a| a.as_os_str()));
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let command = format!("{}{}", owner.prefix(), words.join(" "));
    Ok(Some(Private { url: P::url(port), folder, command, _watchdog: watchdog }))
}

/// Runs the server, and ends it when nothing holds the other end of standard input any more.
///
/// The server is a child of the shell that has not been waited for when the signal is sent, so its number cannot have
/// been given to another process; `ended` is written once it has been.
const WATCHDOG: &str = r#"
folder=$1 signal=$2
shift 2
exec 3<&0 </dev/null
"$@" >"$folder/log" 2>&1 3<&- &
server=$!
(
  while read -r _ <&3; do :; done
  [ -e "$folder/ended" ] || kill -s "$signal" "$server"
) &
reader=$!
exec 3<&-
wait "$server"
: >"$folder/ended"
wait "$reader"
[ -e "$folder/keep" ] || rm -rf "$folder"
"#;

fn wait_until_ready(folder: &Path, ready: &str) -> Result<(), String> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        // In this order: what the log says at the end was said before the end.
        let ended = folder.join("ended").exists();
        let log = fs::read(folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        if ended {
            return Err(format!("it stopped; its log:\n{}", tail(&log)));
        }
        if log.contains(ready) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("it was not ready within {START_LIMIT:?}; its log:\n{}", tail(&log)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Returns the server's version, fit for the name of a file.
fn version(server: &Path, folder: &Path) -> Result<String, String> {
    let mut asked = Command::new(server);
    asked.arg("--version");
    let said = output(asked, folder, Owner { me: 0, nobody: false })?;
    let said: String =
        said.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    Ok(said
        .split('-')
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()))
        .collect::<Vec<_>>()
        .join("-"))
}

/// Runs a command to its end and returns what it said.
fn output(mut command: Command, home: &Path, owner: Owner) -> Result<String, String> {
    owner.confine(&mut command, home);
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{name} failed with {}:\n{}", output.status, tail(&String::from_utf8_lossy(&said))))
}

/// Who runs the servers.
#[derive(Debug, Clone, Copy)]
struct Owner {
    /// The user of this process.
    me: u32,
    /// Servers run as `nobody`, because PostgreSQL refuses to be root.
    nobody: bool,
}

const NOBODY: u32 = 65534;

impl Owner {
    /// Makes a folder for the owner of servers, which nobody else can read.
    fn make(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(folder)?;
        // What a process makes is its own: the way to its user that needs no foreign function.
        let me = fs::metadata(folder)?.uid();
        let owner = Self { me, nobody: me == 0 };
        owner.give(folder)?;
        Ok(owner)
    }

    fn give(self, path: &Path) -> io::Result<()> {
        if self.nobody { chown(path, Some(NOBODY), Some(NOBODY)) } else { Ok(()) }
    }

    /// Makes a command run as the owner, with nothing of our environment that could change what it does.
    fn confine(self, command: &mut Command, home: &Path) {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
        command.env_clear().env("PATH", path).env("LC_ALL", "C").env("HOME", home).env("TMPDIR", home);
        command.current_dir(home);
        if self.nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
    }

    fn prefix(self) -> &'static str {
        if self.nobody { "setpriv --reuid=65534 --regid=65534 --clear-groups " } else { "" }
    }
}

/// A folder that goes again unless what it is for succeeds.
struct RemoveUnlessDone(Option<PathBuf>);

impl Drop for RemoveUnlessDone {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            // What is left behind is in the folder for temporary files.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Copies the data of the template to `to`; `init` makes them, in a folder that is there and with a home, if the
/// template is not there, or not whole: the folder for temporary files is cleaned of what is old, file by file.
fn copy_of_template(
    template: &Path,
    to: &Path,
    owner: Owner,
    init: impl Fn(&Path, &Path) -> Result<(), String>,
) -> Result<(), String> {
    let failed = |e: io::Error| format!("{}: {e}", template.display());
    for _ in 0..2 {
        if is_ours(template, owner) {
            if copy_whole(template, to, owner).is_ok() {
                return Ok(());
            }
            discard(to).and_then(|()| discard(template)).map_err(failed)?;
        }
        make_template(template, owner, &init)?;
    }
    // Somebody else has that name, and could have put anything there.
    DirBuilder::new().mode(0o700).create(to).and_then(|()| owner.give(to)).map_err(failed)?;
    init(to, to.parent().unwrap_or(to))
}

/// Tells whether a folder is this user's, and no other could write to it.
fn is_ours(template: &Path, owner: Owner) -> bool {
    fs::symlink_metadata(template).is_ok_and(|found| {
        found.is_dir() && found.uid() == owner.me && found.permissions().mode() & 0o077 == 0
    })
}

/// The file of a template that has the number of files and folders in its data.
const COUNT: &str = "count";

fn copy_whole(template: &Path, to: &Path, owner: Owner) -> io::Result<()> {
    let expected = fs::read_to_string(template.join(COUNT))?;
    let copied = copy(&template.join("data"), to, owner)?;
    if expected == copied.to_string() { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Makes a template beside its place and moves it there whole; if another process was first, that one's stays.
fn make_template(
    template: &Path,
    owner: Owner,
    init: &impl Fn(&Path, &Path) -> Result<(), String>,
) -> Result<(), String> {
    let work = template.with_file_name(unique("idem_template"));
    let failed = |e: io::Error| format!("{}: {e}", work.display());
    Owner::make(&work).map_err(failed)?;
    let _half_made = RemoveUnlessDone(Some(work.clone()));
    let data = work.join("data");
    Owner::make(&data).map_err(failed)?;
    init(&data, &work)?;
    let count = count(&data).map_err(failed)?;
    fs::write(work.join(COUNT), count.to_string()).map_err(failed)?;
    chown(&work, Some(owner.me), None).map_err(failed)?;
    // A folder that is not empty is never replaced, and every template has its count.
    let _ = fs::rename(&work, template);
    Ok(())
}

/// Removes a folder that others may be looking at: to them it is there or gone.
fn discard(folder: &Path) -> io::Result<()> {
    let away = folder.with_file_name(unique("idem_discarded"));
    match fs::rename(folder, &away) {
        Ok(()) => fs::remove_dir_all(away),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Copies a folder and returns how many files and folders it has.
fn copy(from: &Path, to: &Path, owner: Owner) -> io::Result<u64> {
    DirBuilder::new().mode(0o700).create(to)?;
    owner.give(to)?;
    let mut copied = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        copied += 1;
        if entry.file_type()?.is_dir() {
            copied += copy(&entry.path(), &to, owner)?;
        } else {
            fs::copy(entry.path(), &to)?;
            owner.give(&to)?;
        }
    }
    Ok(copied)
}

fn count(folder: &Path) -> io::Result<u64> {
    let mut counted = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        counted += 1;
        if entry.file_type()?.is_dir() {
            counted += count(&entry.path())?;
        }
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A place for a template, with a count of how often it was made.
    struct Place {
        folder: PathBuf,
        owner: Owner,
        made: AtomicU32,
    }

    impl Place {
        fn new() -> Self {
            let folder = std::env::temp_dir().join(unique("idem_place"));
            let owner = Owner::make(&folder).unwrap();
            Self { folder, owner, made: AtomicU32::new(0) }
        }

        fn template(&self) -> PathBuf {
            self.folder.join("template")
        }

        /// Copies the template to `name` and checks that the copy is whole.
        fn check_copy(&self, name: &str) {
            self.check_copy_after(name, || ());
        }

        /// Does so, calling `before` where the template is made.
        fn check_copy_after(&self, name: &str, before: impl Fn()) {
            let to = self.folder.join(name);
            copy_of_template(&self.template(), &to, self.owner, |data, _| {
                before();
                self.made.fetch_add(1, Ordering::SeqCst);
                fs::create_dir_all(data.join("base/empty")).unwrap();
                fs::write(data.join("base/file"), "contents").unwrap();
                // What the servers' programs make is their user's.
                self.owner.give(&data.join("base/file")).unwrap();
                Ok(())
            })
            .unwrap();
            assert_eq!(fs::read_to_string(to.join("base/file")).unwrap(), "contents");
            assert!(to.join("base/empty").is_dir());
            let uid = if self.owner.nobody { NOBODY } else { self.owner.me };
            assert_eq!(fs::metadata(to.join("base/file")).unwrap().uid(), uid);
        }

        fn made(&self) -> u32 {
            self.made.load(Ordering::SeqCst)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }

    #[test]
    fn a_template_is_made_once() {
        let place = Place::new();
        place.check_copy("first");
        place.check_copy("second");
        assert_eq!(place.made(), 1);
    }

    #[test]
    fn a_template_that_lost_something_is_made_again() {
        let place = Place::new();
        place.check_copy("first");
        fs::remove_dir(place.template().join("data/base/empty")).unwrap();
        place.check_copy("second");
        assert_eq!(place.made(), 2);
        fs::remove_file(place.template().join(COUNT)).unwrap();
        place.check_copy("third");
        assert_eq!(place.made(), 3);
    }

    #[test]
    fn a_template_that_others_can_write_to_is_not_used() {
        let place = Place::new();
        place.check_copy("first");
        fs::set_permissions(place.template(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(place.template().join("data/base/file"), "planted").unwrap();
        place.check_copy("second");
    }

    #[test]
    fn processes_that_make_a_template_at_once_all_get_a_whole_one() {
        let place = Place::new();
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (place, barrier) = (&place, &barrier);
                // All of them have found no template before the first has made one.
                scope.spawn(move || {
                    place.check_copy_after(&n.to_string(), || {
                        barrier.wait();
                    })
                });
            }
        });
        assert_eq!(place.made(), 8);
        let left: Vec<_> = fs::read_dir(&place.folder).unwrap().collect();
        assert_eq!(left.len(), 9, "eight copies and the template: {left:?}");
    }

    #[test]
    fn debians_and_pgdgs_folders_tell_their_version() {
        assert_eq!(version_of(Path::new("/usr/lib/postgresql/15/bin")), Some(15));
        assert_eq!(version_of(Path::new("/usr/lib/postgresql/9.6/bin")), Some(9));
        assert_eq!(version_of(Path::new("/usr/pgsql-16/bin")), Some(16));
        assert_eq!(version_of(Path::new("/usr/share/bin")), None);
    }
}
