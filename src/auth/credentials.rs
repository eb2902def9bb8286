//! `basicAuth` and `apiKey`: who the client is by name and password (RFC 7617), or by a key.
//!
//! Checked before `jwtAuth`, which may stand beside them: each must pass. A credential is removed from the
//! request, also one that a permissive policy let pass, unknown names cost as much as wrong passwords, and what is remembered of a password is a keyed digest.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderMap;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::auth::{Location, Presented, find, remove_from_headers, remove_from_query};
use crate::reason::Reason;
use crate::request::RequestHead;

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

/// What becomes of a request without a good credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is refused.
    Strict,
    /// It goes on without one, and is refused with a bad one.
    Optional,
    /// It goes on, and speaks for nobody.
    Permissive,
}

impl Mode {
    /// What follows from a credential that was looked at.
    fn settle<T>(self, found: Result<Option<T>, Reason>, missing: Reason) -> Result<Option<T>, Reason> {
        match (found, self) {
            (Ok(None), Self::Strict) => Err(missing),
            (Err(reason), Self::Permissive) => {
                tracing::debug!(%reason, "a bad credential, which `mode: permissive` lets pass for none");
                Ok(None)
            }
            (found, _) => found,
        }
    }
}

/// Who a request speaks for by these credentials, as expressions see it.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The name that came with the right password: `basicAuth.username`.
    pub user: Option<Arc<str>>,
    /// What the config says of the key that was shown: `apiKey`.
    pub key: Option<Arc<Map<String, Value>>>,
}

impl Credentials {
    /// Whether every request must show a credential.
    pub fn is_strict(&self) -> bool {
        let basic = self.basic.as_ref().map(|policy| policy.mode);
        [basic, self.api_key.as_ref().map(|keys| keys.mode)].contains(&Some(Mode::Strict))
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
    pub async fn check(&self, head: &RequestHead<'_>) -> Result<Caller, Reason> {
        let key = self.key(head)?;
        let Some(basic) = &self.basic else { return Ok(Caller { key, user: None }) };
        let user = match basic.begin(head) {
            Ok(Begun::Slow(login)) => {
                let turn = Arc::clone(&basic.turns).acquire_owned().await;
                let policy = Arc::clone(basic);
                let checked = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    policy.finish(login)
                });
                checked.await.unwrap_or(Err(Reason::Internal)).map(Some)
            }
            Ok(Begun::Done(user)) => Ok(user),
            Err(reason) => Err(reason),
        };
        Ok(Caller { key, user: basic.mode.settle(user, Reason::MissingCredentials)? })
    }

    /// The same at once, for `explain` and `test`.
    ///
    /// # Errors
    /// The reason for a 401.
    pub fn check_now(&self, head: &RequestHead<'_>) -> Result<Caller, Reason> {
        let key = self.key(head)?;
        let Some(basic) = &self.basic else { return Ok(Caller { key, user: None }) };
        let user = match basic.begin(head) {
            Ok(Begun::Slow(login)) => basic.finish(login).map(Some),
            Ok(Begun::Done(user)) => Ok(user),
            Err(reason) => Err(reason),
        };
        Ok(Caller { key, user: basic.mode.settle(user, Reason::MissingCredentials)? })
    }

    fn key(&self, head: &RequestHead<'_>) -> Result<Option<Arc<Map<String, Value>>>, Reason> {
        match &self.api_key {
            Some(keys) => keys.mode.settle(keys.check(head), Reason::MissingApiKey),
            None => Ok(None),
        }
    }

    /// Removes the credentials that were shown. Returns the query without them, if one stood there and anything is
    /// left of it; an empty text when nothing is.
    pub fn remove(&self, head: &mut HeaderMap, query: Option<&str>, presented: &Shown) -> Option<String> {
        for (locations, places) in presented.places.iter() {
            remove_from_headers(locations, *places, head);
        }
        let before = query?;
        let mut after = before.to_owned();
        for (locations, places) in presented.places.iter() {
            after = remove_from_query(locations, *places, &after).map(|kept| kept.into_owned()).unwrap_or_default();
        }
        (after != before).then_some(after)
    }

    /// Where the request carries credentials of these policies.
    pub fn shown(&self, head: &RequestHead<'_>) -> Shown {
        let basic = self.basic.iter().map(|policy| &policy.locations);
        let keys = self.api_key.iter().map(|policy| &policy.locations);
        let shown = basic.chain(keys).filter_map(|locations| match find(&locations[..], head) {
            Presented::Token(_, places) | Presented::Malformed(_, places) | Presented::Several(places) => {
                Some((Arc::clone(locations), places))
            }
            Presented::Nothing => None,
        });
        Shown { places: shown.collect() }
    }
}

/// Where credentials stand on a request.
#[derive(Debug)]
pub struct Shown {
    places: Vec<(Arc<[Location]>, crate::auth::Places)>,
}

/// API keys, of which only digests are kept.
#[derive(Debug)]
pub struct ApiKeys {
    /// Keys are compared by their digests, which tell nothing to who measures time.
    digests: HashMap<[u8; 32], Arc<Map<String, Value>>>,
    locations: Arc<[Location]>,
    mode: Mode,
}

impl ApiKeys {
    /// The SHA-256 digests of the keys with what expressions see of each, where one stands on a request, and whether
    /// each request needs one.
    pub fn new(keys: impl IntoIterator<Item = ([u8; 32], Map<String, Value>)>, location: Location, mode: Mode) -> Self {
        let digests = keys.into_iter().map(|(digest, metadata)| (digest, Arc::new(metadata))).collect();
        Self { digests, locations: [location].into(), mode }
    }

    fn check(&self, head: &RequestHead<'_>) -> Result<Option<Arc<Map<String, Value>>>, Reason> {
        match find(&self.locations, head) {
            Presented::Token(key, _) => match self.digests.get(&sha256(&key)) {
                Some(metadata) => Ok(Some(Arc::clone(metadata))),
                None => Err(Reason::InvalidApiKey),
            },
            Presented::Nothing => Ok(None),
            _ => Err(Reason::InvalidApiKey),
        }
    }
}

/// Names and password hashes.
#[derive(Debug)]
pub struct BasicAuth {
    users: HashMap<Arc<str>, Hash>,
    /// What is computed for a name that is not there.
    decoy: Option<Box<str>>,
    realm: Box<str>,
    mode: Mode,
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

/// A name and a password whose slow hash is still to be computed.
struct Login {
    /// Who that is, and the hash that the password must have; none for an unknown name.
    user: Option<(Arc<str>, Box<str>)>,
    password: Vec<u8>,
    digest: [u8; 32],
}

/// What came of a login before anything slow.
enum Begun {
    /// Who it is, or that there was no login.
    Done(Option<Arc<str>>),
    Slow(Login),
}

impl BasicAuth {
    /// Reads a file of `name:hash` lines as `htpasswd` writes it, with hashes of bcrypt (`htpasswd -B`) or SHA-1.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn new(htpasswd: &str, realm: &str, mode: Mode) -> Result<Self, String> {
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
            if users.insert(name.into(), hash).is_some() {
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
            mode,
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

    /// All but a slow hash.
    fn begin(&self, head: &RequestHead<'_>) -> Result<Begun, Reason> {
        let wrong = Reason::InvalidCredentials;
        let token = match find(&self.locations, head) {
            Presented::Nothing => return Ok(Begun::Done(None)),
            Presented::Token(token, _) => token,
            _ => return Err(wrong),
        };
        let pair = STANDARD.decode(&*token).map_err(|_| wrong)?;
        let at = pair.iter().position(|byte| *byte == b':').ok_or(wrong)?;
        let (name, password) = (pair.get(..at).ok_or(wrong)?, pair.get(at + 1..).ok_or(wrong)?);
        let mut digest = [0; 32];
        let tag = hmac::sign(&self.secret, &pair);
        digest.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        let known = std::str::from_utf8(name).ok().and_then(|name| self.users.get_key_value(name));
        let user = match known {
            Some((name, Hash::Sha1(hash))) => {
                let found = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password);
                verify_slices_are_equal(found.as_ref(), hash).map_err(|_| wrong)?;
                return Ok(Begun::Done(Some(Arc::clone(name))));
            }
            Some((name, Hash::Bcrypt(_))) if self.accepted.get(&digest).is_some() => {
                return Ok(Begun::Done(Some(Arc::clone(name))));
            }
            Some((name, Hash::Bcrypt(hash))) => Some((Arc::clone(name), hash.clone())),
            None if self.decoy.is_some() => None,
            None => return Err(wrong),
        };
        Ok(Begun::Slow(Login { user, password: password.to_vec(), digest }))
    }

    /// The slow part. Without a user the answer is no, and takes as long.
    fn finish(&self, login: Login) -> Result<Arc<str>, Reason> {
        let hash = login.user.as_ref().map(|(_, hash)| &**hash).or(self.decoy.as_deref());
        let good = hash.is_some_and(|hash| bcrypt::verify(&login.password, hash).unwrap_or(false));
        let (user, _) = login.user.filter(|_| good).ok_or(Reason::InvalidCredentials)?;
        self.accepted.insert(login.digest, ());
        Ok(user)
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

/// The digest that a key is known by.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    let found = digest::digest(&digest::SHA256, bytes);
    digest.iter_mut().zip(found.as_ref()).for_each(|(to, from)| *to = *from);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{ClientInfo, Scheme};
    use http::{HeaderValue, Method, Version};

    fn check(
        credentials: &Credentials,
        lines: &[&str],
        query: Option<&str>,
    ) -> Result<(Option<Arc<str>>, Option<Value>), Reason> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            headers.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let head = RequestHead {
            method: &Method::GET,
            scheme: Scheme::Http,
            authority: &HeaderValue::from_static("h"),
            host: "h",
            port: 80,
            path: "/",
            query,
            version: Version::HTTP_11,
            headers: &headers,
            id: &HeaderValue::from_static(""),
            client: &ClientInfo::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1))),
        };
        let caller = credentials.check_now(&head)?;
        Ok((caller.user, caller.key.map(|key| Value::Object((*key).clone()))))
    }

    fn basic(pair: &str) -> String {
        format!("authorization: Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn names_and_passwords_are_checked_against_both_kinds_of_hashes() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let sha = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, b"old:er"));
        let file = format!("# people\nalice:{hash}\n\nbob:{{SHA}}{sha}\n");
        for mode in [Mode::Strict, Mode::Optional, Mode::Permissive] {
            let policy = BasicAuth::new(&file, "r", mode).unwrap();
            let credentials = Credentials { basic: Some(Arc::new(policy)), api_key: None };
            let user = |name: &str| Ok((Some(name.into()), None));
            let nobody = Ok((None, None));
            let wrong = if mode == Mode::Permissive { nobody.clone() } else { Err(Reason::InvalidCredentials) };
            let missing = if mode == Mode::Strict { Err(Reason::MissingCredentials) } else { nobody };
            for (line, result) in [
                (basic("alice:secret"), &user("alice")),
                (basic("alice:secret"), &user("alice")), // remembered
                (basic("alice:wrong"), &wrong),
                (basic("bob:old:er"), &user("bob")),
                (basic("bob:old"), &wrong),
                (basic("mallory:secret"), &wrong),
                (basic("alice"), &wrong),
                (basic(":"), &wrong),
                ("authorization: Basic !!!".to_owned(), &wrong),
                ("authorization: basic".to_owned(), &wrong),
                ("authorization: Bearer x".to_owned(), &missing),
                ("x: y".to_owned(), &missing),
            ] {
                assert_eq!(check(&credentials, &[&line], None), *result, "{line} {mode:?}");
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
            let error = BasicAuth::new(file, "r", Mode::Strict).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(BasicAuth::new("a:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "a\"b", Mode::Strict).is_err());
    }

    #[test]
    fn keys_are_found_where_they_should_stand() {
        let keys = || [("k1", Map::new()), ("k2", Map::from_iter([("team".to_owned(), Value::from("a"))]))];
        let header = Location::Header { name: "x-api-key".parse().unwrap(), prefix: String::new() };
        let query = Location::Query { name: "key".to_owned() };
        let (none, a_team) = (Some(serde_json::json!({})), Some(serde_json::json!({"team": "a"})));
        let (missing, invalid) = (Reason::MissingApiKey, Reason::InvalidApiKey);
        for (location, lines, asked, result) in [
            (Location::bearer(), &["authorization: Bearer k1"][..], None, Ok(none.clone())),
            (Location::bearer(), &["authorization: Bearer k3"], None, Err(invalid)),
            (Location::bearer(), &["x-api-key: k1"], None, Err(missing)),
            (header.clone(), &["x-api-key: k2"], None, Ok(a_team)),
            (header.clone(), &["x-api-key: k2", "x-api-key: k1"], None, Err(invalid)),
            (header, &["x-api-key: k"], None, Err(invalid)),
            (query, &[], Some("a=1&key=k1"), Ok(none)),
        ] {
            for mode in [Mode::Strict, Mode::Optional, Mode::Permissive] {
                let keys = keys().map(|(key, metadata)| (sha256(key.as_bytes()), metadata));
                let policy = ApiKeys::new(keys, location.clone(), mode);
                let credentials = Credentials { basic: None, api_key: Some(Arc::new(policy)) };
                let expected = match (&result, mode) {
                    (Ok(metadata), _) => Ok((None, metadata.clone())),
                    (Err(reason), Mode::Optional) if *reason == invalid => Err(invalid),
                    (Err(reason), Mode::Strict) => Err(*reason),
                    (Err(_), _) => Ok((None, None)),
                };
                assert_eq!(check(&credentials, lines, asked), expected, "{lines:?} {asked:?} {mode:?}");
            }
        }
    }
}
