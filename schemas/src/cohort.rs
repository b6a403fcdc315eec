//! Which proxies try a candidate first: a share of them, chosen anew by each candidate and the same
//! for whoever computes it.

use crate::digest::Digest;
use crate::spiffe::SpiffeId;

/// The whole: shares are of 10,000.
pub const WHOLE: u32 = 10_000;

/// Where a proxy stands in the roll-out of a candidate, from 0 to 9,999: the first eight bytes, big
/// endian, of SHA-256(candidate digest ‖ SPIFFE ID ‖ instance), modulo 10,000.
pub fn place(candidate: &Digest, identity: &SpiffeId, instance: &str) -> u32 {
    let hash = Digest::of_parts(&[
        candidate.as_bytes(),
        identity.as_str().as_bytes(),
        instance.as_bytes(),
    ]);
    let (first, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a digest has more than eight bytes");
    let place = u64::from_be_bytes(*first) % u64::from(WHOLE);
    u32::try_from(place).expect("a remainder of 10,000 fits")
}

/// Whether a proxy is in the first `share` of 10,000.
pub fn includes(share: u32, candidate: &Digest, identity: &SpiffeId, instance: &str) -> bool {
    place(candidate, identity, instance) < share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_about_right_and_grows() {
        let identity = SpiffeId::parse("spiffe://a/service/b").unwrap();
        let candidate = Digest::of(b"candidate");
        let count = |share| {
            (0..10_000)
                .filter(|n| includes(share, &candidate, &identity, &format!("i{n}")))
                .count()
        };
        assert_eq!(count(0), 0);
        assert_eq!(count(WHOLE), 10_000);
        let tenth = count(1_000);
        assert!((900..1_100).contains(&tenth), "{tenth}");
        let within = (0..100).all(|n| {
            let instance = format!("i{n}");
            !includes(100, &candidate, &identity, &instance)
                || includes(200, &candidate, &identity, &instance)
        });
        assert!(within);
    }
}
