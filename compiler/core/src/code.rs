//! The codes of decoding and linking. `mesh-syntax` has those of reading, the lints their own.

use mesh_syntax::Code;

macro_rules! codes {
    ($($(#[$doc:meta])* $ident:ident = $code:literal $name:literal;)*) => {
        $($(#[$doc])* pub const $ident: Code = Code { code: $code, name: $name };)*

        /// Every code of this crate, ascending.
        pub const ALL: &[Code] = &[$($ident),*];
    };
}

codes! {
    /// A word that the language does not have, or not there.
    UNKNOWN_WORD = "MSH0002" "source/unknown-word";
    /// A value of the wrong type or unit.
    WRONG_TYPE = "MSH0003" "source/wrong-type";
    /// Something required is not there.
    MISSING = "MSH0004" "source/missing";
    /// A number or time outside its bounds.
    OUT_OF_RANGE = "MSH0006" "source/out-of-range";
    /// Two things that exclude each other.
    EXCLUSIVE = "MSH0007" "source/mutually-exclusive";
    /// A regular expression that does not compile, or only at too great a size.
    INVALID_REGEX = "MSH0008" "source/invalid-regex";
    /// A key, token or password in a policy file.
    SECRET = "MSH0013" "source/literal-secret";
    /// A suppression without reason, owner or expiry.
    UNANSWERED_SUPPRESSION = "MSH0014" "source/unanswered-suppression";
    /// A word of the language that this release does not enforce yet.
    NOT_IN_THIS_RELEASE = "MSH0019" "source/not-in-this-release";
    /// A name that nothing has.
    DANGLING_REFERENCE = "MSH0101" "linking/dangling-reference";
    /// A name or a file that could be meant for two.
    AMBIGUOUS = "MSH0102" "linking/ambiguous";
    /// Two definitions of one name.
    DUPLICATE_DEFINITION = "MSH0103" "linking/duplicate-definition";
    /// A name of something else.
    WRONG_KIND = "MSH0104" "linking/wrong-kind";
    /// One field set by two sources of one level.
    TWO_SOURCES = "MSH0109" "linking/two-sources";
    /// A host that two services claim.
    HOST_CLAIMED_TWICE = "MSH0111" "linking/host-claimed-twice";
    /// An identity that is foreign, reserved or another service's.
    IDENTITY = "MSH0112" "linking/identity-not-owned";
    /// A caller that asks for more than the callee grants.
    CALLER_LOOSENS = "MSH0119" "linking/caller-loosens";
    /// Environments that would believe each other's certificates.
    SHARED_TRUST_DOMAIN = "MSH0120" "linking/shared-trust-domain";
    /// A path with a place for what no pattern captures.
    NOT_CAPTURED = "MSH0210" "routing/not-captured";
    /// A path that no request has once it is normalised.
    NOT_NORMALISED = "MSH0212" "routing/path-not-normalised";
    /// Words of one route that can't both hold.
    INCOMPATIBLE_ACTIONS = "MSH0213" "routing/incompatible-actions";
    /// A match or setting of requests on a port of bytes.
    MATCH_ON_BYTES = "MSH0214" "routing/match-on-bytes";
    /// An address whose port says nothing about which port of the service it serves.
    PORT_REQUIRED = "MSH0215" "routing/port-required";
    /// A gRPC method asked for where no port speaks gRPC.
    GRPC_MATCH = "MSH0218" "routing/grpc-match";
    /// Weights on some branches only.
    WEIGHTS_ON_SOME = "MSH0301" "routing/weights-on-some";
    /// Weights that add up to nothing.
    NO_WEIGHT = "MSH0302" "routing/no-weight";
    /// A weight on the only branch.
    NEEDLESS_WEIGHT = "MSH0303" "routing/needless-weight";
    /// One destination twice.
    DESTINATION_TWICE = "MSH0304" "routing/destination-twice";
    /// A subset that the service does not have.
    UNKNOWN_SUBSET = "MSH0305" "routing/unknown-subset";
    /// A time of zero, which other meshes take for no limit.
    ZERO_TIME = "MSH0514" "timeouts/zero-time";
    /// Balancing by keys of the request, without a key.
    HASH_WITHOUT_KEY = "MSH0610" "resilience/hash-without-key";
    /// A file of keys that is none, or holds private ones.
    KEY_SET = "MSH0710" "identity/key-set";
    /// A condition of requests on a port of bytes.
    CONDITION_ON_BYTES = "MSH0806" "access/condition-on-bytes";
    /// Two listeners of one port that can't stand side by side.
    LISTENERS_DISAGREE = "MSH0901" "gateways/listeners-disagree";
    /// Policies that are built before they are committed.
    NOT_COMMITTED = "MSH1101" "rollout/not-committed";
    /// A feature that no proxy of this release carries out.
    FEATURE_NOT_CARRIED = "MSH1103" "rollout/feature-not-carried";
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_ascending() {
        assert!(super::ALL.is_sorted_by(|a, b| a.code < b.code));
    }
}
