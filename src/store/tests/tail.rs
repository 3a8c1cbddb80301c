//! The memory tail of a store at work.

use super::super::start_tests::Scene;
use super::truncate::boundaries;
use super::*;
use crate::base::limits::{SLICES_LET_GO_MAX, TAIL_OVER_BYTES_MAX};

const LOG: LogId = LogId(2);

/// A store whose tail holds a great many small slices, and what is in their log.
fn many_small() -> (Scene, usize) {
    let mut scene = Scene::new(Sabotage::default());
    scene.config.tail_bytes_max = 64 << 20;
    scene.config.bytes_max = 256 << 20;
    scene.config.flush_bytes_max = 4 << 20;
    scene.restart();
    let small = scene.batch(61);
    for n in 0..4 * SLICES_LET_GO_MAX {
        scene.give(LOG.0, &small);
        // What a note is between is not in one slice.
        scene.store.note(LOG, Bytes::new());
        if n % 64 == 0 {
            scene.settle();
            if scene.store.checkpoint_due() {
                scene.checkpoint();
            }
        }
    }
    scene.settle();
    let held = cached(&scene);
    assert!(held > 3 * SLICES_LET_GO_MAX, "{held}");
    (scene, held)
}

fn cached(scene: &Scene) -> usize {
    let segments = scene.store.map.logs[&LOG].segments.iter();
    let slices = segments.flat_map(|segment| segment.slices.range(0));
    slices.filter(|slice| slice.cached).count()
}

/// Polls until nothing is left to be done. How many slices went in each.
fn polls(scene: &mut Scene) -> Vec<usize> {
    let mut went = Vec::new();
    loop {
        let before = cached(scene);
        let ops = scene.asked();
        let now = cached(scene);
        scene.perform(ops);
        went.push(before.saturating_sub(now));
        if !scene.store.has_more_to_do() {
            return went;
        }
    }
}

fn is_whole(scene: &Scene) {
    let len = scene
        .store
        .segments(LOG)
        .map(|(_, _, len)| len)
        .sum::<u64>() as usize;
    let mut pieces = Vec::new();
    scene.store.read(LOG, SegmentId::FIRST, 0, len, &mut pieces);
    let bytes = scene.bytes(&pieces);
    assert_eq!(bytes.len(), len);
    assert_eq!(boundaries(&bytes).last(), Some(&len));
}

#[test]
fn a_bound_that_comes_down_is_kept_in_slices_and_is_nothing_that_was_missed() {
    let (mut scene, held) = many_small();
    let missed = scene.store.tail_bytes_missed();
    scene.store.set_tail_bytes_max(1000);
    assert!(scene.store.has_more_to_do());
    let went = polls(&mut scene);
    assert!(went.len() >= 4, "{went:?}");
    assert!(went.iter().all(|n| *n <= SLICES_LET_GO_MAX), "{went:?}");
    assert!(scene.store.usage().memory_tail_bytes <= 1000);
    assert!(cached(&scene) < 10 && went.iter().sum::<usize>() > held - 10);
    assert_eq!(scene.store.tail_bytes_missed(), missed);
    is_whole(&scene);
}

#[test]
fn large_slices_wait_until_many_small_ones_are_forgotten() {
    let (mut scene, _) = many_small();
    let max = scene.store.usage().memory_tail_bytes;
    scene.store.set_tail_bytes_max(max);
    assert!(!scene.store.has_more_to_do());
    let missed = scene.store.tail_bytes_missed();
    // As much as takes the place of all of them, and more, in one poll if it could be.
    let large = scene.batch(200_000);
    let flush_bytes = scene.config.flush_bytes_max + large.len();
    let mut most = 0;
    while scene.store.open.iter().map(|open| open.cost).sum::<usize>() < 48 << 20 {
        scene.give(LOG.0, &large);
    }
    loop {
        let before = cached(&scene);
        let mut ops = scene.asked();
        assert!(before.saturating_sub(cached(&scene)) <= SLICES_LET_GO_MAX);
        if scene.store.checkpoint_due() {
            scene.store.begin_checkpoint(&mut ops);
        }
        most = most.max(scene.store.usage().memory_tail_bytes);
        scene.perform(ops);
        if scene.store.checkpoint.is_some() {
            let ops = scene.checkpoint_asked();
            scene.perform(ops);
        }
        if scene.store.is_quiet() && !scene.store.has_more_to_do() {
            break;
        }
    }
    scene.settle();
    assert!(
        most > max && most <= max + TAIL_OVER_BYTES_MAX + flush_bytes,
        "{most}"
    );
    assert!(scene.store.usage().memory_tail_bytes <= max);
    assert!(scene.store.tail_bytes_missed() >= missed + max as u64 / 2);
}
