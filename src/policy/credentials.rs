//! `basicAuth` and `apiKey`: who the client is by name and password (RFC 7617), or by a key.
//!
//! Checked before `jwtAuth`, which may stand beside them: each must pass. A credential that was accepted is removed from
//! the request, unknown names cost as much as wrong passwords, and what is remembered of a password is a keyed digest.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderMap;
use tokio::sync::Semaphore;

use crate::auth::{Location, Presented, find, remove_from_headers, remove_from_query};
use crate::reason::Reason;
use crate::request::Head;

/// Accepted passwords that are remembered, so that a slow hash is computed once and not for each request.
const REMEMBERED: usize = 4096;

/// What a request must show besides a bearer token.
#[derive(Debug, Default)]
pub struct Credentials {
    /// `basicAuth`.
    pub basic: Option<Arc<BasicAuth>>,
    /// `apiKey`.
    pub api_key: Option<Arc<ApiKeys>>,
}

impl Credentials {
    /// Whether every request must show a credential.
    pub fn is_strict(&self) -> bool {
        self.basic.as_ref().is_some_and(|policy| policy.strict) || self.api_key.as_ref().is_some_and(|keys| keys.strict)
    }

    /// Every place where a credential may stand.
    pub fn locations(&self) -> impl Iterator<Item = &Location> {
        let basic = self.basic.iter().flat_map(|policy| policy.locations.iter());
        basic.chain(self.api_key.iter().flat_map(|keys| keys.locations.iter()))
    }

    /// Checks what the request shows. Slow hashes are computed away from the worker's thread.
    ///
    /// # Errors
    /// The reason for a 401.
    pub async fn check(&self, head: &Head<'_>) -> Result<(), Reason> {
        if let Some(keys) = &self.api_key {
            keys.check(head)?;
        }
        let Some(basic) = &self.basic else { return Ok(()) };
        let Some((login, hash)) = basic.begin(head)? else { return Ok(()) };
        let turn = Arc::clone(&basic.turns).acquire_owned().await;
        let policy = Arc::clone(basic);
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            policy.finish(&login, hash.as_deref())
        });
        checked.await.unwrap_or(Err(Reason::Internal))
    }

    /// The same at once, for `explain` and `test`.
    ///
    /// # Errors
    /// The reason for a 401.
    pub fn check_now(&self, head: &Head<'_>) -> Result<(), Reason> {
        if let Some(keys) = &self.api_key {
            keys.check(head)?;
        }
        let Some(basic) = &self.basic else { return Ok(()) };
        match basic.begin(head)? {
            Some((login, hash)) => basic.finish(&login, hash.as_deref()),
            None => Ok(()),
        }
    }

    /// Removes the credentials that were accepted. Returns the query without them, if one stood there and anything is
    /// left of it; an empty text when nothing is.
    pub fn remove(&self, head: &mut HeaderMap, query: Option<&str>, presented: &Shown) -> Option<String> {
        for (locations, places) in presented.accepted.iter() {
            remove_from_headers(locations, *places, head);
        }
        let before = query?;
        let mut after = before.to_owned();
        for (locations, places) in presented.accepted.iter() {
            after = remove_from_query(locations, *places, &after).map(|kept| kept.into_owned()).unwrap_or_default();
        }
        (after != before).then_some(after)
    }

    /// Where the request carries credentials of these policies.
    pub fn shown(&self, head: &Head<'_>) -> Shown {
        let basic = self.basic.iter().map(|policy| &policy.locations);
        let keys = self.api_key.iter().map(|policy| &policy.locations);
        let shown = basic.chain(keys).filter_map(|locations| match find(&locations[..], head) {
            Presented::Token(_, places) => Some((Arc::clone(locations), places)),
            _ => None,
        });
        Shown { accepted: shown.collect() }
    }
}

/// Where credentials stand on a request.
#[derive(Debug)]
pub struct Shown {
    accepted: Vec<(Arc<[Location]>, crate::auth::Places)>,
}

/// API keys, of which only digests are kept.
#[derive(Debug)]
pub struct ApiKeys {
    /// Keys are compared by their digests, which tell nothing to who measures time.
    digests: HashSet<[u8; 32]>,
    locations: Arc<[Location]>,
    strict: bool,
}

impl ApiKeys {
    /// The keys, where one stands on a request, and whether each request needs one.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k [u8]>, location: Location, strict: bool) -> Self {
        Self { digests: keys.into_iter().map(sha256).collect(), locations: [location].into(), strict }
    }

    fn check(&self, head: &Head<'_>) -> Result<(), Reason> {
        match find(&self.locations, head) {
            Presented::Token(key, _) if self.digests.contains(&sha256(&key)) => Ok(()),
            Presented::Nothing if self.strict => Err(Reason::MissingApiKey),
            Presented::Nothing => Ok(()),
            _ => Err(Reason::InvalidApiKey),
        }
    }
}

/// Names and password hashes.
#[derive(Debug)]
pub struct BasicAuth {
    users: HashMap<Box<[u8]>, Hash>,
    /// What is computed for a name that is not there.
    decoy: Option<Box<str>>,
    realm: Box<str>,
    strict: bool,
    locations: Arc<[Location]>,
    /// Of this process alone.
    secret: hmac::Key,
    accepted: quick_cache::sync::Cache<[u8; 32], ()>,
    /// How many hashes may be computed at a time.
    turns: Arc<Semaphore>,
}

#[derive(Debug)]
enum Hash {
    Bcrypt(Box<str>),
    Sha1([u8; 20]),
}

/// A name and a password.
struct Login {
    password: Vec<u8>,
    digest: [u8; 32],
}

impl BasicAuth {
    /// Reads a file of `name:hash` lines as `htpasswd` writes it, with hashes of bcrypt (`htpasswd -B`) or SHA-1.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn new(htpasswd: &str, realm: &str, strict: bool) -> Result<Self, String> {
        if !realm.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\')) {
            return Err("the `realm` holds a character that can't stand between quotes in a header".to_owned());
        }
        let mut users = HashMap::new();
        for (number, line) in htpasswd.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) = line.split_once(':').ok_or_else(|| format!("line {number} is not `name:hash`"))?;
            let hash = Hash::read(hash).ok_or_else(|| {
                format!("line {number}: the hash of `{name}` is of a kind that is not supported; make one with `htpasswd -B`")
            })?;
            if users.insert(name.as_bytes().into(), hash).is_some() {
                return Err(format!("line {number}: the name `{name}` stands there twice"));
            }
        }
        if users.is_empty() {
            return Err("there is no user in it, so nobody could log in".to_owned());
        }
        let decoy = users.values().find_map(|hash| match hash {
            Hash::Bcrypt(hash) => Some(hash.clone()),
            Hash::Sha1(_) => None,
        });
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| "there is no randomness to be had".to_owned())?;
        let basic = Location::Header { name: http::header::AUTHORIZATION, prefix: "Basic ".to_owned() };
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            users,
            decoy,
            realm: realm.into(),
            strict,
            locations: [basic].into(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            accepted: quick_cache::sync::Cache::new(REMEMBERED),
            turns: Arc::new(Semaphore::new(at_once)),
        })
    }

    /// The realm of the challenge.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// All but a slow hash: nothing to do any more, or a login and the hash that it must have; none for an unknown name.
    #[allow(clippy::type_complexity, reason = "a pair")]
    fn begin(&self, head: &Head<'_>) -> Result<Option<(Login, Option<Box<str>>)>, Reason> {
        let wrong = Reason::InvalidCredentials;
        let token = match find(&self.locations, head) {
            Presented::Nothing if self.strict => return Err(Reason::MissingCredentials),
            Presented::Nothing => return Ok(None),
            Presented::Token(token, _) => token,
            _ => return Err(wrong),
        };
        let pair = STANDARD.decode(&*token).map_err(|_| wrong)?;
        let at = pair.iter().position(|byte| *byte == b':').ok_or(wrong)?;
        let (name, password) = (pair.get(..at).ok_or(wrong)?, pair.get(at + 1..).ok_or(wrong)?);
        let mut digest = [0; 32];
        let tag = hmac::sign(&self.secret, &pair);
        digest.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        let hash = match self.users.get(name) {
            Some(Hash::Sha1(hash)) => {
                let found = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
                return verify_slices_are_equal(found.as_ref(), hash).map(|()| None).map_err(|_| wrong);
            }
            Some(Hash::Bcrypt(_)) if self.accepted.get(&digest).is_some() => return Ok(None),
            Some(Hash::Bcrypt(hash)) => Some(hash.clone()),
            None if self.decoy.is_some() => None,
            None => return Err(wrong),
        };
        Ok(Some((Login { password: password.to_vec(), digest }, hash)))
    }

    /// The slow part. Without a hash the answer is no, and takes as long.
    fn finish(&self, login: &Login, hash: Option<&str>) -> Result<(), Reason> {
        let known = hash.is_some();
        let Some(hash) = hash.or(self.decoy.as_deref()) else { return Err(Reason::InvalidCredentials) };
        if bcrypt::verify(&login.password, hash).unwrap_or(false) && known {
            self.accepted.insert(login.digest, ());
            return Ok(());
        }
        Err(Reason::InvalidCredentials)
    }
}

impl Hash {
    fn read(hash: &str) -> Option<Self> {
        if let Some(encoded) = hash.strip_prefix("{SHA}") {
            return STANDARD.decode(encoded).ok()?.try_into().ok().map(Self::Sha1);
        }
        let bcrypt = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
        (bcrypt && hash.parse::<bcrypt::HashParts>().is_ok()).then(|| Self::Bcrypt(hash.into()))
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    let found = digest::digest(&digest::SHA256, bytes);
    digest.iter_mut().zip(found.as_ref()).for_each(|(to, from)| *to = *from);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Scheme, Source};
    use http::{Method, Version};

    fn check(credentials: &Credentials, lines: &[&str], query: Option<&str>) -> Result<(), Reason> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        credentials.check_now(&Head {
            method: &Method::GET,
            scheme: Scheme::Http,
            authority: "h",
            host: "h",
            port: 80,
            path: "/",
            query,
            version: Version::HTTP_11,
            headers: &headers,
            id: "",
            source: &Source::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1))),
        })
    }

    fn basic(pair: &str) -> String {
        format!("authorization: Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn names_and_passwords_are_checked_against_both_kinds_of_hashes() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let sha = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, b"old:er"));
        let file = format!("# people\nalice:{hash}\n\nbob:{{SHA}}{sha}\n");
        for strict in [true, false] {
            let policy = BasicAuth::new(&file, "r", strict).unwrap();
            let credentials = Credentials { basic: Some(Arc::new(policy)), api_key: None };
            let wrong = Err(Reason::InvalidCredentials);
            let missing = if strict { Err(Reason::MissingCredentials) } else { Ok(()) };
            for (line, result) in [
                (basic("alice:secret"), Ok(())),
                (basic("alice:secret"), Ok(())), // remembered
                (basic("alice:wrong"), wrong),
                (basic("bob:old:er"), Ok(())),
                (basic("bob:old"), wrong),
                (basic("mallory:secret"), wrong),
                (basic("alice"), wrong),
                (basic(":"), wrong),
                ("authorization: Basic !!!".to_owned(), wrong),
                ("authorization: basic".to_owned(), wrong),
                ("authorization: Bearer x".to_owned(), missing),
                ("x: y".to_owned(), missing),
            ] {
                assert_eq!(check(&credentials, &[&line], None), result, "{line} {strict}");
            }
            let (good, other) = (basic("alice:secret"), basic("bob:old:er"));
            assert_eq!(check(&credentials, &[&good, &other], None), wrong);
        }
    }

    #[test]
    fn a_file_that_can_not_work_is_refused() {
        for (file, why) in [
            ("", "no user"),
            ("alice", "line 1 is not"),
            ("\nalice:$apr1$x$y", "line 2: the hash of `alice`"),
            ("alice:plain", "htpasswd -B"),
            ("alice:$2y$05$short", "htpasswd -B"),
            ("a:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\na:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "twice"),
        ] {
            let error = BasicAuth::new(file, "r", true).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(BasicAuth::new("a:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "a\"b", true).is_err());
    }

    #[test]
    fn keys_are_found_where_they_should_stand() {
        let keys = [&b"k1"[..], b"k2"];
        let header = Location::Header { name: "x-api-key".parse().unwrap(), prefix: String::new() };
        let query = Location::Query { name: "key".to_owned() };
        for (location, lines, asked, result) in [
            (Location::bearer(), &["authorization: Bearer k1"][..], None, Ok(())),
            (Location::bearer(), &["authorization: Bearer k3"], None, Err(Reason::InvalidApiKey)),
            (Location::bearer(), &["x-api-key: k1"], None, Err(Reason::MissingApiKey)),
            (header.clone(), &["x-api-key: k2"], None, Ok(())),
            (header.clone(), &["x-api-key: k2", "x-api-key: k1"], None, Err(Reason::InvalidApiKey)),
            (header, &["x-api-key: k"], None, Err(Reason::InvalidApiKey)),
            (query, &[], Some("a=1&key=k1"), Ok(())),
        ] {
            let policy = ApiKeys::new(keys, location, true);
            let credentials = Credentials { basic: None, api_key: Some(Arc::new(policy)) };
            assert_eq!(check(&credentials, lines, asked), result, "{lines:?} {asked:?}");
        }
    }
}
