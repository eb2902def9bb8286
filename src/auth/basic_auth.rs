//! `basicAuth`: authentication by user name and password (RFC 7617) against an htpasswd file.
//!
//! Unknown names cost as much time as wrong passwords. Slow hashes are computed off the worker threads, and at most as
//! many at a time as there are CPUs. An accepted password is remembered as a keyed digest, so that its hash is not
//! computed for each request. Rejected: an unknown name, a wrong password, and several `Authorization` headers.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Semaphore;

use super::AuthMode;
use super::credential_location::{FoundCredential, Location, LocationSet, extract_credential};
use super::credentials::CheckedCredential;
use crate::reason::Reason;
use crate::request::RequestHead;

/// The maximum number of accepted passwords that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// A compiled `basicAuth` policy.
#[derive(Debug)]
pub struct BasicAuth {
    users: HashMap<Arc<str>, PasswordHash>,
    /// The hash that is computed for an unknown user name.
    decoy: Option<Box<str>>,
    realm: Box<str>,
    mode: AuthMode,
    locations: [Location; 1],
    /// The key of the remembered digests, random for each process.
    secret: hmac::Key,
    accepted: quick_cache::sync::Cache<[u8; 32], ()>,
    /// Limits how many hashes are computed at a time.
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
enum PasswordHash {
    Bcrypt(Box<str>),
    Sha1([u8; 20]),
}

/// A login whose slow hash has not been computed yet.
struct PendingLogin {
    /// The user and the hash that the password must have; `None` for an unknown name.
    user: Option<(Arc<str>, Box<str>)>,
    password: Vec<u8>,
    digest: [u8; 32],
}

/// The state of a login before any slow hash.
enum LoginStep {
    /// The user, or `None` without a login.
    Done(Option<Arc<str>>),
    SlowHash(PendingLogin),
}

impl BasicAuth {
    /// Parses a file of `name:hash` lines as `htpasswd` writes it, with bcrypt (`htpasswd -B`) or SHA-1 hashes.
    ///
    /// # Errors
    /// Returns a description of the problem, with its line number.
    pub fn new(htpasswd: &str, realm: &str, mode: AuthMode) -> Result<Self, String> {
        if !realm.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\')) {
            return Err("the `realm` contains a character that is not allowed in a quoted header value".to_owned());
        }
        let mut users = HashMap::new();
        for (number, line) in htpasswd.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = line.split_once(':').ok_or_else(|| format!("line {number} is not `name:hash`"))?;
            let hash = PasswordHash::parse(hash).ok_or_else(|| {
                format!("line {number}: the hash of `{name}` has an unsupported format; create one with `htpasswd -B`")
            })?;
            if users.insert(name.into(), hash).is_some() {
                return Err(format!("line {number}: duplicate user name `{name}`"));
            }
        }
        if users.is_empty() {
            return Err("the file contains no user, so every login would fail".to_owned());
        }
        let decoy = users.values().find_map(|hash| match hash {
            PasswordHash::Bcrypt(hash) => Some(hash.clone()),
            PasswordHash::Sha1(_) => None,
        });
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| "the system random source is unavailable".to_owned())?;
        let location = Location::Header { name: http::header::AUTHORIZATION, prefix: "Basic ".to_owned() };
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            users,
            decoy,
            realm: realm.into(),
            mode,
            locations: [location],
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            accepted: quick_cache::sync::Cache::new(MAX_REMEMBERED),
            permits: Arc::new(Semaphore::new(cpus)),
        })
    }

    /// Returns the realm of the challenge.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Returns the mode of the policy.
    pub fn mode(&self) -> AuthMode {
        self.mode
    }

    /// Returns the locations that are searched for a login.
    pub fn locations(&self) -> &[Location] {
        &self.locations
    }

    /// Checks the login on the request. Slow hashes are computed on a blocking thread.
    pub(super) async fn check(self: &Arc<Self>, head: &RequestHead<'_>) -> CheckedCredential<str> {
        let (step, found_in) = self.start_login(head);
        let result = match step {
            Ok(LoginStep::SlowHash(login)) => {
                let permit = Arc::clone(&self.permits).acquire_owned().await;
                let policy = Arc::clone(self);
                let checked = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    policy.finish_login(login)
                });
                checked.await.unwrap_or(Err(Reason::Internal)).map(Some)
            }
            Ok(LoginStep::Done(user)) => Ok(user),
            Err(reason) => Err(reason),
        };
        CheckedCredential { result: self.mode.apply(result, Reason::MissingCredentials), found_in }
    }

    /// Checks the login on the calling thread, for `explain` and `test`.
    pub(super) fn check_blocking(&self, head: &RequestHead<'_>) -> CheckedCredential<str> {
        let (step, found_in) = self.start_login(head);
        let result = match step {
            Ok(LoginStep::SlowHash(login)) => self.finish_login(login).map(Some),
            Ok(LoginStep::Done(user)) => Ok(user),
            Err(reason) => Err(reason),
        };
        CheckedCredential { result: self.mode.apply(result, Reason::MissingCredentials), found_in }
    }

    fn start_login(&self, head: &RequestHead<'_>) -> (Result<LoginStep, Reason>, LocationSet) {
        let found = extract_credential(&self.locations, head);
        let found_in = found.locations();
        let step = match found {
            FoundCredential::Absent => Ok(LoginStep::Done(None)),
            FoundCredential::Token(encoded, _) => self.check_fast(&encoded),
            _ => Err(Reason::InvalidCredentials),
        };
        (step, found_in)
    }

    /// Performs everything except a slow hash.
    fn check_fast(&self, encoded: &[u8]) -> Result<LoginStep, Reason> {
        let invalid = Reason::InvalidCredentials;
        let pair = STANDARD.decode(encoded).map_err(|_| invalid)?;
        let colon = pair.iter().position(|byte| *byte == b':').ok_or(invalid)?;
        let (name, password) = (pair.get(..colon).ok_or(invalid)?, pair.get(colon + 1..).ok_or(invalid)?);
        let mut digest = [0; 32];
        let tag = hmac::sign(&self.secret, &pair);
        digest.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        let entry = std::str::from_utf8(name).ok().and_then(|name| self.users.get_key_value(name));
        let user = match entry {
            Some((name, PasswordHash::Sha1(hash))) => {
                let computed = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
                verify_slices_are_equal(computed.as_ref(), hash).map_err(|_| invalid)?;
                return Ok(LoginStep::Done(Some(Arc::clone(name))));
            }
            Some((name, PasswordHash::Bcrypt(_))) if self.accepted.get(&digest).is_some() => {
                return Ok(LoginStep::Done(Some(Arc::clone(name))));
            }
            Some((name, PasswordHash::Bcrypt(hash))) => Some((Arc::clone(name), hash.clone())),
            None if self.decoy.is_some() => None,
            None => return Err(invalid),
        };
        Ok(LoginStep::SlowHash(PendingLogin { user, password: password.to_vec(), digest }))
    }

    /// Computes the slow hash. An unknown user is rejected after the same time as a wrong password.
    fn finish_login(&self, login: PendingLogin) -> Result<Arc<str>, Reason> {
        let hash = login.user.as_ref().map(|(_, hash)| &**hash).or(self.decoy.as_deref());
        let matches = hash.is_some_and(|hash| bcrypt::verify(&login.password, hash).unwrap_or(false));
        let (user, _) = login.user.filter(|_| matches).ok_or(Reason::InvalidCredentials)?;
        self.accepted.insert(login.digest, ());
        Ok(user)
    }
}

impl PasswordHash {
    fn parse(hash: &str) -> Option<Self> {
        if let Some(encoded) = hash.strip_prefix("{SHA}") {
            return STANDARD.decode(encoded).ok()?.try_into().ok().map(Self::Sha1);
        }
        let is_bcrypt = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
        (is_bcrypt && hash.parse::<bcrypt::HashParts>().is_ok()).then(|| Self::Bcrypt(hash.into()))
    }
}
