//! Which connection serves which partitions.

use std::collections::BTreeMap;

/// One connection: the broker it goes to and the partitions it serves there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Node id of the broker.
    pub leader: i32,
    /// Partitions that it leads, by their numbers in the layout.
    pub slots: Vec<usize>,
}

/// Shares out `connections` among the leaders of `partitions` (number, leader): every leader gets at
/// least one, the others go to where most partitions wait per connection. Where there are more
/// connections than partitions, several serve the same partition.
pub fn assign(partitions: &[(usize, i32)], connections: usize) -> Vec<Assignment> {
    let mut by_leader: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for &(partition, leader) in partitions {
        by_leader.entry(leader).or_default().push(partition);
    }
    let mut shares: Vec<(i32, Vec<usize>, usize)> = by_leader
        .into_iter()
        .map(|(leader, led)| (leader, led, 1))
        .collect();
    for _ in shares.len()..connections {
        let busiest = shares.iter_mut().max_by(|a, b| {
            // a.partitions / a.connections against b's, without rounding; the first one wins a tie.
            (a.1.len() * b.2)
                .cmp(&(b.1.len() * a.2))
                .then(b.0.cmp(&a.0))
        });
        match busiest {
            Some(share) => share.2 += 1,
            None => break,
        }
    }
    let mut assignments = Vec::new();
    for (leader, led, share) in shares {
        for n in 0..share {
            let slots = if share <= led.len() {
                led.iter().copied().skip(n).step_by(share).collect()
            } else {
                vec![led[n % led.len()]]
            };
            assignments.push(Assignment { leader, slots });
        }
    }
    assignments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(partitions: &[(usize, i32)], connections: usize) -> Vec<(i32, Vec<usize>)> {
        assign(partitions, connections)
            .into_iter()
            .map(|a| (a.leader, a.slots))
            .collect()
    }

    #[test]
    fn one_connection_serves_all() {
        assert_eq!(plan(&[(0, 1), (1, 1), (2, 1)], 1), [(1, vec![0, 1, 2])]);
    }

    #[test]
    fn every_leader_gets_a_connection() {
        assert_eq!(
            plan(&[(0, 1), (1, 2), (2, 1)], 1),
            [(1, vec![0, 2]), (2, vec![1])]
        );
    }

    #[test]
    fn connections_go_where_the_partitions_are() {
        let partitions = [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)];
        assert_eq!(
            plan(&partitions, 3),
            [(1, vec![0, 2]), (1, vec![1, 3]), (2, vec![4])]
        );
    }

    #[test]
    fn more_connections_than_partitions_share_them() {
        assert_eq!(
            plan(&[(0, 1), (1, 1)], 3),
            [(1, vec![0]), (1, vec![1]), (1, vec![0])]
        );
    }

    #[test]
    fn no_partitions_no_connections() {
        assert_eq!(plan(&[], 3), []);
    }
}
