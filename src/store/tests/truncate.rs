//! Logs that are cut back: at any moment, and whatever is on its way.

use super::super::start_tests::Scene;
use super::*;
use crate::base::limits::SLICES_LET_GO_MAX;

/// Positions at which a batch begins, or would.
pub(super) fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    while let Some(len) = ends
        .last()
        .and_then(|at| super::super::batch::batch_len(&bytes[*at..]))
    {
        ends.push(ends[ends.len() - 1] + len);
    }
    ends
}

impl World {
    /// Cuts a log back to some batch, more often to one of the last.
    pub(super) fn truncate(&mut self, log: LogId) {
        let model = self.logs.get_mut(&log).unwrap();
        let segment = match self.rng.chance(2, 3) {
            true => model.active(),
            false => model.any_segment(&mut self.rng),
        };
        let ends = boundaries(&model.segments[&segment]);
        let back = self.rng.below(ends.len().min(6) as u64) as usize;
        let len = ends[ends.len() - 1 - back];
        let cut = Cut {
            segment,
            len: len as u64,
            next: model.active().next(),
            base: Offset(model.next),
        };
        let flush = self.store.truncate(log, cut, Bytes::new());
        model.cut(&cut);
        model.mark(flush);
    }
}

impl ModelLog {
    fn cut(&mut self, cut: &Cut) {
        let mut behind = self.segments.split_off(&cut.segment);
        let mut last = behind.remove(&cut.segment).unwrap();
        self.gone.append(&mut behind);
        self.gone.entry(cut.segment).or_insert_with(|| last.clone());
        last.truncate(cut.len as usize);
        if !last.is_empty() {
            self.segments.insert(cut.segment, last);
        }
        self.segments.insert(cut.next, Vec::new());
    }
}

/// What is done to log 2, besides which the others get something too.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(usize),
    /// To so many bytes of the segment that is active.
    Cut(u64),
    Checkpoint,
}

use Step::{Append, Checkpoint, Cut as CutTo};

/// A log of a scene, by segment.
fn segments_of(scene: &Scene, store: &Store, log: LogId) -> Vec<(SegmentId, Vec<u8>)> {
    let mut found = Vec::new();
    for (segment, _, len) in store.segments(log) {
        let mut pieces = Vec::new();
        store.read(log, segment, 0, len as usize, &mut pieces);
        found.push((segment, scene.bytes(&pieces)));
    }
    found
}

/// Runs the steps, each to its end, on a disk that stops after `cut` operations, of which the last one is torn. What
/// is found then is what the log was after one of the steps, and no earlier one than the last that was acknowledged.
/// Returns whether it got to the end.
fn cut_off_after(steps: &[Step], together: bool, cut: usize) -> bool {
    let mut scene = Scene::new(Sabotage::default());
    let log = LogId(2);
    let mut expected: Vec<(SegmentId, Vec<u8>)> = vec![(SegmentId::FIRST, Vec::new())];
    let (mut states, mut acknowledged, mut done) = (vec![expected.clone()], 0, 0);
    let mut stopped = false;
    let mut given = 0;
    for (n, step) in steps.iter().enumerate() {
        let mut ops = Vec::new();
        match *step {
            Append(len) => {
                let batch = scene.batch(len);
                scene.give(2, &batch);
                let bytes = stamped(&batch, Offset(7), LeaderEpoch(0));
                expected.last_mut().unwrap().1.extend(bytes);
            }
            CutTo(len) => {
                let (segment, bytes) = expected.last_mut().unwrap();
                let cut = Cut {
                    segment: *segment,
                    len,
                    next: segment.next(),
                    base: Offset(9),
                };
                bytes.truncate(len as usize);
                if bytes.is_empty() {
                    expected.pop();
                }
                expected.push((cut.next, Vec::new()));
                scene.store.truncate(log, cut, Bytes::new());
            }
            Checkpoint => scene.store.checkpoint(Vec::new(), &mut ops),
        }
        states.push(expected.clone());
        given += 1;
        if together && n + 1 < steps.len() && !matches!(step, Checkpoint) {
            continue;
        }
        loop {
            scene.store.poll(&mut ops);
            let Some(op) = (!ops.is_empty()).then(|| ops.remove(0)) else {
                break;
            };
            if done == cut {
                if let DiskOp::Write { pos, data, .. } = &op {
                    let torn = scene.rng.below(data.len() as u64 / 512) as usize * 512;
                    scene.disk.put(*pos, &data[..torn]);
                }
                stopped = true;
                break;
            }
            done += 1;
            scene.write(&op);
            let mut events = Vec::new();
            scene.store.on_disk(op.id(), Ok(()), &mut ops, &mut events);
            scene.store.invariants();
        }
        if stopped {
            break;
        }
        assert_eq!(segments_of(&scene, &scene.store, log), expected);
        acknowledged = given;
    }
    for _ in 0..2 {
        scene.restart();
        assert!(scene.store.damaged().next().is_none());
        let found = segments_of(&scene, &scene.store, log);
        let after = states[acknowledged..]
            .iter()
            .position(|state| *state == found);
        assert!(after.is_some(), "{steps:?} cut off after {cut}: {found:?}");
        let small = scene.batch(300);
        scene.acknowledged(1, &small);
        scene.check_all_but(Some(log));
    }
    !stopped
}

#[test]
fn a_cut_is_there_or_not_wherever_the_power_goes() {
    let batch = 3000;
    let lives: [&[Step]; 6] = [
        &[Append(batch), Append(batch), CutTo(3000), Append(200)],
        &[
            Append(9000),
            Append(8000),
            CutTo(9000),
            Append(9000),
            Checkpoint,
            Append(100),
        ],
        &[
            Append(9000),
            CutTo(0),
            Append(5000),
            CutTo(5000),
            Append(300),
        ],
        &[
            Append(batch),
            Append(9000),
            Checkpoint,
            CutTo(3000),
            Append(9000),
            Checkpoint,
        ],
        &[
            Append(9000),
            Append(200),
            Checkpoint,
            CutTo(9000),
            Checkpoint,
            Append(9000),
        ],
        &[
            Append(5000),
            Append(5000),
            CutTo(5000),
            CutTo(0),
            Append(70),
            Checkpoint,
        ],
    ];
    for steps in lives {
        for together in [false, true] {
            let whole = (0..200).find(|cut| cut_off_after(steps, together, *cut));
            assert!(whole.is_some(), "it never got to its end");
        }
    }
}

/// What a flush or a checkpoint was writing for a segment that is cut meanwhile is of no use to the next one.
#[test]
fn what_completes_late_touches_no_new_segment() {
    for filling in [false, true] {
        let mut scene = Scene::new(Sabotage::default());
        let (inline, bulk) = (scene.batch(6000), scene.batch(20_000));
        let mut late = Vec::new();
        if filling {
            scene.store.config.bulk_bytes_min = 1 << 20;
            scene.acknowledged(2, &inline);
            scene.acknowledged(2, &inline);
            scene.store.checkpoint(Vec::new(), &mut late);
        } else {
            scene.give(2, &inline);
            scene.give(2, &bulk);
            late = scene.asked();
        }
        assert!(late.len() > 1);
        let chunks = |scene: &Scene| {
            let segments = scene.store.map.logs[&LogId(2)].segments.iter();
            let extents = segments.map(|s| s.extents.iter().map(|e| e.chunk).collect::<Vec<_>>());
            extents.collect::<Vec<_>>()
        };
        let before = chunks(&scene);
        let cut = Cut {
            segment: SegmentId::FIRST,
            len: 6000,
            next: SegmentId(1),
            base: Offset(8),
        };
        scene.store.config.bulk_bytes_min = 4096;
        scene.store.truncate(LogId(2), cut, Bytes::new());
        scene.give(2, &bulk);
        let mut ops = scene.asked();
        assert!(!ops.is_empty(), "another flush may be on its way");
        let after = chunks(&scene);
        assert!(after[1].iter().all(|chunk| !before[0].contains(chunk)));
        let given_up: Vec<Chunk> = scene.store.freed.chunks().collect();
        let kept = after[0].len();
        assert_eq!(after[0][..], before[0][..kept]);
        assert_eq!(given_up[..], before[0][kept..]);
        // The new one first, then what was on its way.
        ops.append(&mut late);
        scene.perform(ops);
        scene.settle();
        let segments = &scene.store.map.logs[&LogId(2)].segments;
        assert_eq!(
            (segments[0].len, segments[0].placed),
            (6000, segments[0].filled)
        );
        assert_eq!(segments[1].filled, layout::block_floor(20_000));
        let first = stamped(&inline, Offset(7), LeaderEpoch(0));
        let second = stamped(&bulk, Offset(7), LeaderEpoch(0));
        let expected = vec![(SegmentId::FIRST, first), (SegmentId(1), second)];
        for _ in 0..2 {
            assert_eq!(segments_of(&scene, &scene.store, LogId(2)), expected);
            scene.restart();
        }
        // Only a checkpoint gives the chunks back, and then all of them.
        let held = |store: &Store| store.freed.chunks().count() + store.unpinned_soon.len();
        assert_eq!(held(&scene.store), given_up.len());
        scene.checkpoint();
        assert_eq!(held(&scene.store), 0);
        assert_eq!(segments_of(&scene, &scene.store, LogId(2)), expected);
        scene.restart();
        assert_eq!(segments_of(&scene, &scene.store, LogId(2)), expected);
    }
}

/// The page cache may be asked for a chunk when nothing more is written to it, what was cut off of it included.
#[test]
fn a_chunk_is_not_sealed_while_what_was_cut_off_is_written_to_it() {
    let mut scene = Scene::new(Sabotage::default());
    scene.store.set_tail_bytes_max(0);
    let (kept, gone) = (scene.batch(2 * BLOCK), scene.batch(20_000));
    scene.acknowledged(2, &kept);
    scene.give(2, &gone);
    let late = scene.asked();
    let cut = Cut {
        segment: SegmentId::FIRST,
        len: kept.len() as u64,
        next: SegmentId(1),
        base: Offset(8),
    };
    scene.store.truncate(LogId(2), cut, Bytes::new());
    let mut ops = scene.asked();
    let read = |scene: &Scene| {
        let mut pieces = Vec::new();
        let (store, log) = (&scene.store, LogId(2));
        store.read(log, SegmentId::FIRST, 0, kept.len(), &mut pieces);
        let [Piece::File { pin, len, .. }] = &pieces[..] else {
            panic!("it is in one chunk: {pieces:?}");
        };
        assert_eq!(*len, kept.len());
        pin.is_sealed()
    };
    assert!(!read(&scene), "half of the chunk is being written");
    ops.extend(late);
    scene.perform(ops);
    scene.settle();
    assert!(read(&scene));
}

/// A record that cuts a log is passed over like any other.
#[test]
fn a_cut_that_has_rotted_costs_its_log() {
    for more in [false, true] {
        let mut scene = Scene::new(Sabotage::default());
        let (small, bulk) = (scene.batch(3300), scene.batch(9000));
        scene.acknowledged(2, &bulk);
        scene.acknowledged(2, &small);
        let rot = (layout::RING_START + scene.store.ring_head) as usize + 60;
        let cut = Cut {
            segment: SegmentId::FIRST,
            len: 9000,
            next: SegmentId(1),
            base: Offset(8),
        };
        scene.store.truncate(LogId(2), cut, Bytes::new());
        scene.settle();
        if more {
            scene.acknowledged(2, &bulk);
        }
        scene.acknowledged(1, &small);
        scene.disk.image[rot] ^= 1;
        for _ in 0..2 {
            scene.restart();
            let damaged: Vec<LogId> = scene.store.damaged().map(|(log, ..)| log).collect();
            assert_eq!(damaged, [LogId(2)]);
            scene.check_all_but(Some(LogId(2)));
            let found = segments_of(&scene, &scene.store, LogId(2));
            let new = stamped(&bulk, Offset(7), LeaderEpoch(0));
            assert_eq!(found.len(), 1 + usize::from(more));
            assert!(!more || found[1] == (SegmentId(1), new));
            scene.checkpoint();
        }
    }
}

/// However much of a log is in memory, it is let go a bit at a time: when the log is cut back, deleted, or loses old
/// segments.
#[test]
fn memory_of_what_is_gone_is_let_go_in_slices() {
    const BATCHES: usize = 3 * SLICES_LET_GO_MAX;
    for how in 0..4 {
        let mut scene = Scene::new(Sabotage::default());
        scene.config.tail_bytes_max = 64 << 20;
        scene.restart();
        let small = scene.batch(61);
        for n in 0..BATCHES {
            scene.give(2, &small);
            // What a note is between is not in one slice.
            scene.store.note(LogId(2), Bytes::new());
            if n % 64 == 0 {
                scene.settle();
                if scene.store.checkpoint_due() {
                    scene.checkpoint();
                }
            }
        }
        scene.settle();
        let log = LogId(2);
        let slices = |scene: &Scene| -> usize {
            let log = scene.store.map.logs.get(&log);
            log.map_or(0, |log| log.segments.iter().map(|s| s.slices.len()).sum())
        };
        let held = slices(&scene);
        assert!(held > 2 * SLICES_LET_GO_MAX, "{held}");
        let cut = |len| Cut {
            segment: SegmentId::FIRST,
            len,
            next: SegmentId(1),
            base: Offset(8),
        };
        match how {
            0 => scene.store.truncate(log, cut(61), Bytes::new()),
            1 => scene.store.truncate(log, cut(0), Bytes::new()),
            2 => {
                scene.store.roll(log, SegmentId(1), Offset(8));
                scene.store.drop_before(log, SegmentId(1))
            }
            _ => scene.store.delete_log(log),
        };
        let mut polls = 0;
        let ops = scene.asked();
        assert!(slices(&scene) <= 1, "gone from the log at once");
        let mut left = scene.store.gone_slices();
        assert!(left + SLICES_LET_GO_MAX >= held - 1, "{left} of {held}");
        scene.perform(ops);
        while left > 0 {
            assert!(scene.store.has_more_to_do());
            let ops = scene.asked();
            scene.perform(ops);
            let now = scene.store.gone_slices();
            assert!(now < left && left - now <= SLICES_LET_GO_MAX);
            (left, polls) = (now, polls + 1);
        }
        assert!(polls > 0);
    }
}
