//! Whether one token is good: RFC 7515 section 5.2 and RFC 7519 section 7.2, by the counsel of RFC 8725.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_bundle::slice::JwtProvider;

use super::json::{self, Json, member};
use super::key::{Algorithm, KeySet, VerifyingKey};
use super::{Claims, Invalid};
use crate::limits;

/// Judges a token of a provider with the keys that it has at the moment, at `now` in seconds since 1970.
pub fn verify<V: VerifyingKey>(
    provider: &JwtProvider,
    token: &[u8],
    keys: Option<&KeySet<V>>,
    now: u64,
) -> Result<Claims, Invalid> {
    if token.len() > limits::TOKEN_BYTES_MAX {
        return Err(Invalid::TooLarge);
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Invalid::Malformed);
    };
    // One text for each value: neither padding nor bits that are left over.
    let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part);
    let (Ok(header_text), Ok(claims), Ok(mark)) =
        (decode(header), decode(payload), decode(signature))
    else {
        return Err(Invalid::Malformed);
    };
    let header_text = json::object(&header_text).ok_or(Invalid::Malformed)?;
    let (algorithm, key) = read_header(&header_text)?;
    let keys = keys.ok_or(Invalid::NoKeys)?;
    let mut candidates = keys.candidates(algorithm, key)?;
    let message = token
        .get(..header.len() + 1 + payload.len())
        .ok_or(Invalid::Malformed)?;
    if !candidates.any(|key| key.verifies(message, &mark)) {
        return Err(Invalid::Signature);
    }
    let claims = json::object(&claims).ok_or(Invalid::Claims)?;
    read_claims(provider, &claims, now)?;
    Ok(Claims::of(&claims))
}

/// The algorithm, and the name of the key.
fn read_header(header: &[(String, Json)]) -> Result<(Algorithm, Option<&str>), Invalid> {
    let Some(Json::Text(name)) = member(header, "alg") else {
        return Err(Invalid::Malformed);
    };
    let algorithm = Algorithm::named(name).ok_or(Invalid::Algorithm)?;
    // No extension is known; `b64` of RFC 7797 is one.
    if member(header, "crit").is_some() {
        return Err(Invalid::Critical);
    }
    let is_for_access = match member(header, "typ") {
        None => true,
        Some(Json::Text(kind)) => {
            let kind = kind.strip_prefix("application/").unwrap_or(kind);
            ["jwt", "at+jwt"]
                .iter()
                .any(|known| kind.eq_ignore_ascii_case(known))
        }
        Some(_) => return Err(Invalid::Malformed),
    };
    if !is_for_access {
        return Err(Invalid::Type);
    }
    // A name that is compared, and never a path or a URL that is followed.
    let key = match member(header, "kid") {
        None => None,
        Some(Json::Text(id)) if id.len() <= limits::KEY_ID_BYTES_MAX => Some(id.as_str()),
        Some(Json::Text(_)) => return Err(Invalid::UnknownKey),
        Some(_) => return Err(Invalid::Malformed),
    };
    Ok((algorithm, key))
}

/// What is of another kind than it must be is wrong, and not absent.
fn read_claims(provider: &JwtProvider, claims: &[(String, Json)], now: u64) -> Result<(), Invalid> {
    let text = |name: &str| match member(claims, name) {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Invalid::Claims),
    };
    let time = |name: &str| match member(claims, name) {
        None => Ok(None),
        Some(Json::Unsigned(seconds)) => Ok(Some(*seconds)),
        Some(_) => Err(Invalid::Claims),
    };
    let audiences = match member(claims, "aud") {
        None => Vec::new(),
        Some(Json::Text(audience)) => vec![audience.as_str()],
        Some(Json::List(audiences)) => {
            let audiences = audiences.iter().map(Json::as_text);
            let audiences = audiences.collect::<Option<Vec<_>>>();
            audiences.ok_or(Invalid::Claims)?
        }
        Some(_) => return Err(Invalid::Claims),
    };
    text("sub")?;
    text("jti")?;
    let (expires, begins, issued) = (time("exp")?, time("nbf")?, time("iat")?);
    if text("iss")? != Some(provider.issuer.as_str()) {
        return Err(Invalid::Issuer);
    }
    let is_meant = |wanted: &String| audiences.contains(&wanted.as_str());
    if !provider.audiences.is_empty() && !provider.audiences.iter().any(is_meant) {
        return Err(Invalid::Audience);
    }
    // Without an end it could never be taken back.
    if expires.is_none_or(|end| now >= end.saturating_add(limits::TOKEN_LEEWAY_SECONDS)) {
        return Err(Invalid::Expired);
    }
    let soon = now.saturating_add(limits::TOKEN_LEEWAY_SECONDS);
    if begins.is_some_and(|begin| begin > soon) {
        return Err(Invalid::NotYetValid);
    }
    if issued.is_some_and(|issued| issued > soon) {
        return Err(Invalid::IssuedLater);
    }
    Ok(())
}
