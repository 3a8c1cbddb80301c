//! Whole runs of a leader and its followers, right ones and such in which a rule is broken.

use super::{Cluster, Counts, Flaw, STEPS};

fn run(flaw: Flaw, seed: u64) -> Counts {
    let mut cluster = Cluster::new(flaw, seed);
    (0..STEPS).for_each(|_| cluster.step());
    cluster.end()
}

/// What was found to be wrong.
fn wrong(flaw: Flaw, seed: u64) -> Result<Counts, String> {
    std::panic::catch_unwind(|| run(flaw, seed)).map_err(|what| {
        let text = what.downcast_ref::<String>().cloned();
        text.or_else(|| what.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

#[test]
fn what_is_committed_stays_and_is_the_same_everywhere() {
    let mut all = Counts::default();
    for seed in 0..40 {
        let counts = match wrong(Flaw::Nothing, seed) {
            Ok(counts) => counts,
            Err(what) => panic!("seed {seed}: {what}"),
        };
        all.committed += counts.committed;
        all.cuts += counts.cuts;
        all.asked_again += counts.asked_again;
        all.scans += counts.scans;
        all.started_over += counts.started_over;
        all.joined += counts.joined;
        all.lost_flushes += counts.lost_flushes;
        all.lost += counts.lost;
        all.refused += counts.refused;
        all.unreadable += counts.unreadable;
        all.left_out += counts.left_out;
        all.unclean += counts.unclean;
        all.stale += counts.stale;
    }
    let least = [
        all.committed / 1000,
        all.cuts / 10,
        all.asked_again / 10,
        all.scans / 10,
        all.started_over / 10,
        all.joined / 10,
        all.lost_flushes / 10,
        all.lost / 10,
        all.refused / 4,
        all.unreadable,
        all.left_out / 10,
        all.unclean / 10,
        all.stale / 1000,
    ];
    assert!(least.iter().all(|count| *count > 0), "{all:?}");
}

/// Each is found by what it breaks, and not by anything else that goes wrong.
#[test]
fn each_rule_is_needed() {
    for (flaw, breaks) in [
        (Flaw::ByWatermark, "is committed"),
        (Flaw::OnReceipt, "is committed"),
        (Flaw::ComparesOnce, " and not "),
        (Flaw::EndIsCommitted, " for committed, and "),
        (Flaw::AnyTerm, "is committed"),
        (Flaw::Deaf, "has not become like its leader"),
        (Flaw::LosesInSilence, "is committed"),
        (Flaw::LeadsInSilence, "is committed"),
    ] {
        let is_found = |seed| wrong(flaw, seed).is_err_and(|what| what.contains(breaks));
        assert!((0..200).any(is_found), "{flaw:?}");
    }
}
