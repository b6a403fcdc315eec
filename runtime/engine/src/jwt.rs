//! Tokens of users (RFC 7519): where a request carries them, whether they are what policy asks for, and the claims
//! that rules are then asked about. Signatures are checked by whoever holds the keys, behind [`VerifyingKey`].
//!
//! Nothing of a token is believed before its signature is: of its header only which key and which algorithm it
//! claims, and these must be a pair that the provider's own keys have. So neither `none` nor a public key taken for a
//! secret ever gets as far as a signature (RFC 8725 section 2.1), and `jku`, `x5u`, `jwk` and `x5c` are not read.

use std::fmt;

use mesh_bundle::slice::JwtProvider;

use crate::request::Request;

mod claims;
mod json;
mod key;
mod location;
mod token;

pub use claims::Claims;
pub use key::{Algorithm, Key, KeySet, KeySetError, PublicKey, VerifyingKey};
pub use token::verify;

/// Why a request has no token that will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invalid {
    /// It brings none.
    Missing,
    /// It brings several where one is meant, and they need not say the same.
    Several,
    /// Larger than [`crate::limits::TOKEN_BYTES_MAX`].
    TooLarge,
    /// Not three parts in base64url, or a header that is none.
    Malformed,
    /// Not an algorithm that any key of the provider has; `none` is one of these.
    Algorithm,
    /// Its header says that something must be understood which is not (RFC 7515 section 4.1.11).
    Critical,
    /// It says that it is something else than a token for access.
    Type,
    /// No key of the provider has its name.
    UnknownKey,
    /// The provider's keys are not there: they could not be fetched, or not for too long.
    NoKeys,
    /// No key of the provider signed it.
    Signature,
    /// Its claims cannot be read, or one of them is of another kind than it must be.
    Claims,
    /// Somebody else issued it.
    Issuer,
    /// It is meant for somebody else.
    Audience,
    /// Its time is over, or it does not say when it will be.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It was issued in the future.
    IssuedLater,
}

impl Invalid {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Missing,
        Self::Several,
        Self::TooLarge,
        Self::Malformed,
        Self::Algorithm,
        Self::Critical,
        Self::Type,
        Self::UnknownKey,
        Self::NoKeys,
        Self::Signature,
        Self::Claims,
        Self::Issuer,
        Self::Audience,
        Self::Expired,
        Self::NotYetValid,
        Self::IssuedLater,
    ];

    /// As written in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Several => "several_tokens",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Algorithm => "algorithm",
            Self::Critical => "critical",
            Self::Type => "type",
            Self::UnknownKey => "unknown_key",
            Self::NoKeys => "no_keys",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedLater => "issued_later",
        }
    }

    /// The same for whoever sent it, in words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Missing => "a token is needed",
            Self::Several => "more than one token was sent",
            Self::TooLarge => "the token is too large",
            Self::Malformed => "the token is malformed",
            Self::Algorithm => "the token's algorithm is not one of its issuer's keys",
            Self::Critical => "the token asks for an extension that is not known here",
            Self::Type => "the token is not for access",
            Self::UnknownKey => "the token's key is not known",
            Self::NoKeys => "the issuer's keys are not known at the moment",
            Self::Signature => "the token's signature is wrong",
            Self::Claims => "the token's claims are malformed",
            Self::Issuer => "the token is of another issuer",
            Self::Audience => "the token is for another audience",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::IssuedLater => "the token was issued in the future",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request brings for one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// A token that is good.
    Verified,
    /// None.
    Nothing,
    /// One that is good for another provider, and why it is not for this one.
    OfAnother(Invalid),
    /// One that is good for nobody.
    Invalid(Invalid),
}

impl Brought {
    /// Why it does not do where a token is required.
    pub fn unless_verified(self) -> Option<Invalid> {
        match self {
            Self::Verified => None,
            Self::Nothing => Some(Invalid::Missing),
            Self::OfAnother(why) | Self::Invalid(why) => Some(why),
        }
    }

    /// Why it does not do where a token is only accepted: "Only a wrong token is refused."
    pub fn unless_acceptable(self) -> Option<Invalid> {
        match self {
            Self::Verified | Self::Nothing | Self::OfAnother(_) => None,
            Self::Invalid(why) => Some(why),
        }
    }
}

/// The tokens of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    claims: Claims,
    /// By provider, in the order in which these were asked about.
    brought: Vec<(Box<str>, Brought)>,
    forwards: Vec<(Box<str>, Vec<u8>)>,
}

impl Tokens {
    /// Reads what a request brings for these providers, at `now` in seconds since 1970. `keys` are the provider's
    /// of the moment.
    pub fn read<'p, V, S>(
        providers: impl Iterator<Item = &'p JwtProvider>,
        request: &Request<'_>,
        keys: impl Fn(&JwtProvider) -> Option<S>,
        now: u64,
    ) -> Self
    where
        V: VerifyingKey,
        S: std::ops::Deref<Target = KeySet<V>>,
    {
        let mut tokens = Self::default();
        let mut refused = Vec::new();
        let mut good: Vec<Vec<u8>> = Vec::new();
        for provider in providers {
            let position = tokens.brought.len();
            let brought = match location::find(provider, request) {
                Ok(None) => Brought::Nothing,
                Err(why) => Brought::Invalid(why),
                Ok(Some(token)) => {
                    let keys = keys(provider);
                    match verify(provider, &token, keys.as_deref(), now) {
                        Ok(claims) => {
                            tokens.forward(provider, &claims);
                            tokens.claims.extend(claims);
                            good.push(token);
                            Brought::Verified
                        }
                        Err(why) => {
                            refused.push((position, token, why));
                            Brought::Invalid(why)
                        }
                    }
                }
            };
            tokens
                .brought
                .push((provider.name.as_str().into(), brought));
        }
        for (position, token, why) in refused {
            let is_good = good.contains(&token);
            if let (true, Some((_, brought))) = (is_good, tokens.brought.get_mut(position)) {
                *brought = Brought::OfAnother(why);
            }
        }
        tokens
    }

    fn forward(&mut self, provider: &JwtProvider, claims: &Claims) {
        for forward in &provider.forwards {
            claims.each(&forward.claim, &mut |value| {
                self.forwards
                    .push((forward.header.as_str().into(), value.to_vec()));
            });
        }
    }

    /// What they say, of all that are good; `None`: none is.
    pub fn claims(&self) -> Option<&Claims> {
        let is_verified = |(_, brought): &(_, Brought)| *brought == Brought::Verified;
        self.brought.iter().any(is_verified).then_some(&self.claims)
    }

    /// What is brought for a provider.
    pub fn of(&self, provider: &str) -> Brought {
        let mut all = self.brought.iter();
        let found = all.find(|(name, _)| **name == *provider);
        found.map_or(Brought::Nothing, |(_, brought)| *brought)
    }

    /// The same for each provider that was asked about.
    pub fn brought(&self) -> impl Iterator<Item = (&str, Brought)> {
        self.brought
            .iter()
            .map(|(name, brought)| (&**name, *brought))
    }

    /// What the service is told in headers: each claim that is forwarded, a line per value.
    pub fn forwards(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.forwards
            .iter()
            .map(|(header, value)| (&**header, value.as_slice()))
    }
}

#[cfg(test)]
mod tests;
