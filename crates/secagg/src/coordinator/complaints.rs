//! Who said, with its masked input, whose shares do not open. It is said before anything is revealed, and signed: so a
//! dealer that spoils shares and a holder that frames a dealer are in dispute, whatever happens later.

use super::roster::Roster;
use crate::disputes::Dispute;
use std::collections::BTreeMap;

/// Complaints of holders whose inputs were accepted.
#[derive(Default)]
pub(super) struct Complaints {
    /// By holder, if there are any: the dealers, ascending.
    about: BTreeMap<u32, Vec<u32>>,
}

impl Complaints {
    pub(super) fn note(&mut self, holder: u32, dealers: Vec<u32>) {
        if !dealers.is_empty() {
            self.about.insert(holder, dealers);
        }
    }

    /// Whether this holder says that its shares of this dealer do not open.
    pub(super) fn stands(&self, holder: u32, dealer: u32) -> bool {
        self.about.get(&holder).is_some_and(|dealers| dealers.binary_search(&dealer).is_ok())
    }

    /// All of them, ascending.
    pub(super) fn disputes(&self, roster: &Roster) -> Vec<Dispute> {
        let pairs =
            self.about.iter().flat_map(|(&holder, dealers)| dealers.iter().map(move |&dealer| (dealer, holder)));
        let mut disputes: Vec<Dispute> = pairs.map(|(dealer, holder)| dispute(roster, dealer, holder)).collect();
        disputes.sort_unstable();
        disputes
    }
}

pub(super) fn dispute(roster: &Roster, dealer: u32, holder: u32) -> Dispute {
    Dispute { dealer: roster.member(dealer).id.clone(), holder: roster.member(holder).id.clone() }
}
