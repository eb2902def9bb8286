//! Watches the config file and the files that it references, and reloads the config when they change.
//!
//! The directories that contain the files are watched, since editors and Kubernetes replace files and links instead of
//! writing to them. In addition, the contents are compared every few seconds, for mounts that do not send events. In both
//! cases the contents decide: when they are the same as at the last attempt, the config is not reloaded.
//!
//! A config that was given as text, in an argument or through a pipe, is not in a file and does not change. The files that
//! it references are watched and loaded again.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::data_plane::DataPlane;
use super::reload_error::ReloadError;
use crate::config::{self, Config, LoadedConfig, Source};

/// The time without events after which a change is assumed to be complete.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// The limit on the wait for a directory in which something changes all the time.
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);
/// The interval at which the contents are compared without an event.
const POLL_INTERVAL: Duration = Duration::from_secs(3);
/// The limit on the compared bytes of a file, far above the size of a key or certificate.
const MAX_COMPARED_BYTES: u64 = 16 << 20;

/// A handle to the watcher thread.
#[derive(Debug)]
pub(crate) struct ConfigWatcher {
    commands: mpsc::Sender<WatcherCommand>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WatcherCommand {
    /// Reload if the contents changed.
    Check,
    /// Reload, even if nothing changed.
    Reload,
    Stop,
}

impl ConfigWatcher {
    /// Starts to watch the config file, if there is one, and the files that the config references.
    pub(crate) fn start(data_plane: Arc<DataPlane>, file: Option<&Path>) -> std::io::Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let mut watcher = WatcherLoop::new(data_plane, file.map(Path::to_owned), commands.clone());
        let thread = std::thread::Builder::new().name("reload".to_owned()).spawn(move || watcher.run(&receiver))?;
        Ok(Self { commands, thread })
    }

    /// Reloads the config, even if nothing changed.
    pub(crate) fn reload(&self) {
        let _ = self.commands.send(WatcherCommand::Reload);
    }

    pub(crate) fn stop(self) {
        let _ = self.commands.send(WatcherCommand::Stop);
        let _ = self.thread.join();
    }
}

/// The state of the watcher thread.
struct WatcherLoop {
    data_plane: Arc<DataPlane>,
    /// The config file; `None` when the config was given as text.
    config_file: Option<PathBuf>,
    /// The files that the active config and the last attempted config reference.
    referenced_files: BTreeSet<PathBuf>,
    /// The digest of the contents at the last attempt.
    last_digest: u64,
    watched_dirs: BTreeSet<PathBuf>,
    notifier: Option<RecommendedWatcher>,
}

impl WatcherLoop {
    fn new(data_plane: Arc<DataPlane>, config_file: Option<PathBuf>, commands: mpsc::Sender<WatcherCommand>) -> Self {
        let notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // reads cause events too, and this thread reads the files
            let write_closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
            if event.is_ok_and(|event| !event.kind.is_access() || event.kind == write_closed) {
                let _ = commands.send(WatcherCommand::Check);
            }
        });
        let notifier = notifier
            .map_err(|error| tracing::warn!(%error, "cannot receive file events, comparing files every 3 s"))
            .ok();
        let referenced_files = referenced_paths(&data_plane.state().snapshot().loaded.config);
        let mut watcher =
            Self { data_plane, config_file, referenced_files, last_digest: 0, watched_dirs: BTreeSet::new(), notifier };
        watcher.update_watches();
        watcher.last_digest = watcher.content_digest();
        watcher
    }

    fn run(&mut self, commands: &mpsc::Receiver<WatcherCommand>) {
        // the file may have changed between the start and now
        if self.file_differs_from_active() {
            self.reload();
        }
        loop {
            let command = match commands.recv_timeout(POLL_INTERVAL) {
                Ok(WatcherCommand::Check) => debounce(commands),
                Ok(command) => command,
                Err(RecvTimeoutError::Timeout) => WatcherCommand::Check,
                Err(RecvTimeoutError::Disconnected) => WatcherCommand::Stop,
            };
            match command {
                WatcherCommand::Stop => return,
                WatcherCommand::Reload => self.reload(),
                WatcherCommand::Check if self.content_digest() != self.last_digest => self.reload(),
                WatcherCommand::Check => {}
            }
        }
    }

    /// Returns whether the text of the config file differs from that of the active config.
    fn file_differs_from_active(&self) -> bool {
        let active = self.data_plane.state().snapshot();
        let text = self.config_file.as_ref().and_then(|file| std::fs::read(file).ok());
        text.is_some_and(|text| text != active.loaded.source.text().as_bytes())
    }

    fn reload(&mut self) {
        // computed before the files are loaded, so that a concurrent change is noticed by the next check
        self.last_digest = self.content_digest();
        let loaded = self.load();
        let attempted = loaded.as_ref().map(|loaded| referenced_paths(&loaded.config)).unwrap_or_default();
        let _ = self.data_plane.reload(loaded);
        let active = referenced_paths(&self.data_plane.state().snapshot().loaded.config);
        let referenced: BTreeSet<PathBuf> = active.into_iter().chain(attempted).collect();
        if referenced != self.referenced_files {
            self.referenced_files = referenced;
            self.last_digest = self.content_digest();
        }
        self.update_watches();
    }

    fn load(&self) -> Result<LoadedConfig, ReloadError> {
        let source = match &self.config_file {
            Some(file) => Source::read(file).map_err(|error| ReloadError::new(&[error], None))?,
            None => self.data_plane.state().snapshot().loaded.source.clone(),
        };
        config::load(source.clone(), &|name| std::env::var(name).ok())
            .map_err(|errors| ReloadError::new(&errors, Some(&source)))
    }

    /// Returns a digest of all contents. For a file that cannot be read, the error is included.
    fn content_digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for path in self.config_file.iter().chain(&self.referenced_files) {
            path.hash(&mut hasher);
            match read_bounded(path) {
                Ok(bytes) => bytes.hash(&mut hasher),
                Err(error) => error.kind().hash(&mut hasher),
            }
        }
        hasher.finish()
    }

    /// Watches the directories of all files and of the targets of their links.
    fn update_watches(&mut self) {
        let Some(notifier) = &mut self.notifier else { return };
        let mut required_dirs = BTreeSet::new();
        for path in self.config_file.iter().chain(&self.referenced_files) {
            required_dirs.extend(parent_dir(path));
            required_dirs.extend(std::fs::canonicalize(path).ok().as_deref().and_then(parent_dir));
        }
        for removed in self.watched_dirs.difference(&required_dirs) {
            let _ = notifier.unwatch(removed);
        }
        self.watched_dirs.retain(|dir| required_dirs.contains(dir));
        for dir in required_dirs {
            if self.watched_dirs.contains(&dir) {
                continue;
            }
            match notifier.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched_dirs.insert(dir);
                }
                Err(error) => tracing::debug!(folder = %dir.display(), %error, "cannot watch directory"),
            }
        }
    }
}

/// Waits until there have been no events for a moment.
fn debounce(commands: &mpsc::Receiver<WatcherCommand>) -> WatcherCommand {
    let end = Instant::now() + MAX_DEBOUNCE;
    while Instant::now() < end {
        match commands.recv_timeout(DEBOUNCE) {
            Ok(WatcherCommand::Check) => {}
            Ok(command) => return command,
            Err(_) => break,
        }
    }
    WatcherCommand::Check
}

fn referenced_paths(config: &Config) -> BTreeSet<PathBuf> {
    config::referenced_files(config).into_iter().map(|file| file.value.clone()).collect()
}

fn parent_dir(path: &Path) -> Option<PathBuf> {
    let dir = std::path::absolute(path).ok()?.parent()?.to_owned();
    Some(dir).filter(|dir| dir.as_os_str() != OsStr::new(""))
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // reading a pipe or a device might not end
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::open(path)?, MAX_COMPARED_BYTES), &mut bytes)?;
    Ok(bytes)
}
