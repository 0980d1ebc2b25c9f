//! Tokens: JSON Web Tokens with upstream's claims (upstream's `hypeman-token`).

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hmac;
use crate::scope::Scope;
use crate::secret::Secret;

/// Clocks may differ by so many seconds.
const LEEWAY: u64 = 5;

/// Prefix of the users of tokens that upstream gives to its builders.
const BUILDER: &str = "builder-";

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its user, for logs.
    pub user: String,
    /// How long it is valid.
    pub duration: Duration,
    /// What it may be used for; everything when `None`.
    pub scopes: Option<Vec<Scope>>,
}

/// Claims of a token (RFC 7519).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// User.
    pub(crate) sub: String,
    #[serde(default)]
    iat: u64,
    exp: u64,
    /// Scopes; without this claim the token is for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    permissions: Option<Vec<String>>,
    /// Claims of upstream's builder tokens, which are for its registry alone.
    #[serde(flatten, skip_serializing)]
    builder: BuilderClaims,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct BuilderClaims {
    repos: Option<Value>,
    repo_access: Option<Value>,
    scope: Option<Value>,
    build_id: Option<Value>,
}

impl Claims {
    /// Whether the token may be used for `scope`.
    pub(crate) fn allow(&self, scope: Scope) -> bool {
        let is_it = |permission: &String| permission == "*" || *permission == scope.to_string();
        self.permissions.as_ref().is_none_or(|permissions| permissions.iter().any(is_it))
    }

    /// Whether it is a token for a builder, which may not use the API.
    pub(crate) fn is_of_builder(&self) -> bool {
        self.builder != BuilderClaims::default() || self.sub.starts_with(BUILDER)
    }
}

/// Issues a token.
///
/// # Panics
/// Never: a secret is not empty, and the claims are JSON.
#[must_use]
pub fn issue(secret: &Secret, grant: &Grant) -> String {
    hmac::install();
    let now = jsonwebtoken::get_current_timestamp();
    let claims = Claims {
        sub: grant.user.clone(),
        iat: now,
        exp: now.saturating_add(grant.duration.as_secs()),
        permissions: grant.scopes.as_ref().map(|scopes| scopes.iter().map(Scope::to_string).collect()),
        ..Claims::default()
    };
    let key = EncodingKey::from_secret(secret.as_bytes()).expect("a secret is not empty");
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("claims are JSON")
}

/// Verifies tokens of one secret.
pub(crate) struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl Verifier {
    pub(crate) fn new(secret: &Secret) -> Verifier {
        hmac::install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY;
        let key = DecodingKey::from_secret(secret.as_bytes()).expect("a secret is not empty");
        Verifier { key, validation }
    }

    /// Returns the claims of a token; `None` when it is not ours, or its time is over.
    pub(crate) fn verify(&self, token: &str) -> Option<Claims> {
        jsonwebtoken::decode(token, &self.key, &self.validation).ok().map(|token| token.claims)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::of(Some(text), Path::new("/")).unwrap()
    }

    fn grant(scopes: Option<&[&str]>) -> Grant {
        let scopes = scopes.map(|scopes| scopes.iter().map(|scope| scope.parse().unwrap()).collect());
        Grant { user: "ann".to_owned(), duration: Duration::from_secs(60), scopes }
    }

    #[test]
    fn a_token_is_for_its_scopes_and_one_without_scopes_for_everything() {
        let secret = secret("0123456789abcdef");
        let verifier = Verifier::new(&secret);
        let [read, write] = ["instance:read", "instance:write"].map(|scope| scope.parse().unwrap());
        let claims = verifier.verify(&issue(&secret, &grant(Some(&["instance:read"])))).unwrap();
        assert!(claims.allow(read) && !claims.allow(write) && claims.sub == "ann");
        let all = verifier.verify(&issue(&secret, &grant(None))).unwrap();
        assert!(all.allow(read) && all.allow(write) && !all.is_of_builder());
        let none = verifier.verify(&issue(&secret, &grant(Some(&[])))).unwrap();
        assert!(!none.allow(read));
    }

    #[test]
    fn a_token_of_another_secret_an_old_one_and_a_forged_one_are_refused() {
        let secret = secret("0123456789abcdef");
        let verifier = Verifier::new(&secret);
        let good = issue(&secret, &grant(None));
        assert!(verifier.verify(&good).is_some());
        let another = self::secret("another");
        assert!(verifier.verify(&issue(&another, &grant(None))).is_none());
        let over = jsonwebtoken::get_current_timestamp() - LEEWAY - 1;
        let old = Claims { exp: over, ..Claims::default() };
        let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
        let old = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &old, &key).unwrap();
        assert!(verifier.verify(&old).is_none());
        let [_, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
        // {"alg":"none","typ":"JWT"}
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        for forged in [none, format!("{good}x"), format!(".{claims}.{signature}"), String::new()] {
            assert!(verifier.verify(&forged).is_none(), "{forged}");
        }
    }

    #[test]
    fn a_builder_s_token_is_told_from_a_user_s() {
        for claims in [
            r#"{"sub":"builder-1","exp":1}"#,
            r#"{"sub":"a","exp":1,"build_id":"b"}"#,
            r#"{"sub":"a","exp":1,"repo_access":[{"repo":"r","scope":"push"}]}"#,
        ] {
            assert!(serde_json::from_str::<Claims>(claims).unwrap().is_of_builder(), "{claims}");
        }
    }
}
