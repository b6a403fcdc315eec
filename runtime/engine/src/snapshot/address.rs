//! Virtual addresses: which callee an intercepted connection means.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::condition::canonical;
use crate::route::CalleeTable;

/// The callees of each net of one length.
type Nets = BTreeMap<IpNet, Vec<usize>>;

/// Callees by their virtual addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressIndex {
    /// By falling length of prefix; several callees may share an address and differ in port.
    nets: Box<[(u8, Nets)]>,
}

impl AddressIndex {
    pub(super) fn build(callees: &[CalleeTable]) -> Self {
        let mut nets: BTreeMap<u8, Nets> = BTreeMap::new();
        for (position, callee) in callees.iter().enumerate() {
            for net in callee.addresses() {
                let net = canonical(net).trunc();
                let of_length = nets.entry(net.prefix_len()).or_default();
                let sharing = of_length.entry(net).or_default();
                if sharing.last() != Some(&position) {
                    sharing.push(position);
                }
            }
        }
        Self {
            nets: nets.into_iter().rev().collect(),
        }
    }

    /// The only one of those under the longest prefix that is meant.
    pub(super) fn find(&self, address: IpAddr, meant: impl Fn(usize) -> bool) -> Option<usize> {
        let address = address.to_canonical();
        for (length, nets) in &self.nets {
            let Ok(net) = IpNet::new(address, *length) else {
                continue;
            };
            let sharing = nets.get(&net.trunc()).into_iter().flatten().copied();
            let mut found = sharing.filter(|position| meant(*position));
            if let Some(first) = found.next() {
                return found.next().is_none().then_some(first);
            }
        }
        None
    }
}
