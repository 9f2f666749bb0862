//! Token sequences laid over each other where they begin alike.
//!
//! A forest: every token of a shared beginning is there once. Sampling computes a node's keys and values
//! once for all requests below it, learning makes one row of each token. Nodes stand in depth-first
//! order, so **the rows below a node follow it without a gap**: that is what lets attention read a
//! shared part once for everything below.

use std::ops::Range;

use toehold_rollout::TokenId;

/// Whether what begins alike is computed once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Once for all sequences that begin with it.
    #[default]
    Shared,
    /// Once for each sequence, as trainers do that know nothing of tries: the measure of what sharing
    /// saves.
    Separate,
}

/// A forest of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trie {
    /// One token per row.
    pub(crate) tokens: Vec<TokenId>,
    /// In depth-first order; a node's children come after it.
    pub(crate) nodes: Vec<Node>,
    /// By sequence, as they were given: the node whose last token is the sequence's last.
    pub(crate) ends: Vec<usize>,
}

/// Tokens that the same sequences go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) parent: Option<usize>,
    /// Rows of its own tokens; never empty.
    pub(crate) rows: Range<usize>,
    /// The place of its first token in its sequences.
    pub(crate) position: usize,
    /// The end of the rows of its last descendant.
    pub(crate) below: usize,
}

/// The order in which sequences that begin alike stand next to each other.
pub(crate) fn order(sequences: &[&[TokenId]]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by(|&a, &b| sequences[a].cmp(sequences[b]).then(a.cmp(&b)));
    order
}

/// Cuts `order` into runs of at most `budget` rows each, where neighbours have least in common; a longer
/// sequence has a run of its own.
pub(crate) fn runs(sequences: &[&[TokenId]], order: &[usize], budget: usize, sharing: Sharing) -> Vec<Vec<usize>> {
    // What a sequence has in common with the one before it, and so need not be computed for it.
    let shared: Vec<usize> = (0..order.len())
        .map(|place| match sharing {
            Sharing::Shared if place > 0 => common(sequences[order[place - 1]], sequences[order[place]]),
            _ => 0,
        })
        .collect();
    let (mut runs, mut start, mut rows) = (Vec::new(), 0, 0);
    let mut place = 0;
    while place < order.len() {
        let length = sequences[order[place]].len();
        let more = if place == start { length } else { length - shared[place] };
        if place == start || rows + more <= budget {
            rows += more;
            place += 1;
            continue;
        }
        // A cut computes anew what was shared across it, so a good one is worth a run that is not full.
        let mut filled = sequences[order[start]].len();
        let mut cut = place;
        for candidate in start + 1..place {
            if filled >= budget / 2 && shared[candidate] < shared[cut] {
                cut = candidate;
            }
            filled += sequences[order[candidate]].len() - shared[candidate];
        }
        runs.push(order[start..cut].to_vec());
        (start, place, rows) = (cut, cut, 0);
    }
    if start < order.len() {
        runs.push(order[start..].to_vec());
    }
    runs
}

impl Trie {
    /// Lays `sequences` over each other; none of them may be empty.
    pub fn new(sequences: &[&[TokenId]], sharing: Sharing) -> Trie {
        let mut trie = Trie { ends: vec![0; sequences.len()], ..Trie::default() };
        match sharing {
            Sharing::Separate => {
                for (index, sequence) in sequences.iter().enumerate() {
                    trie.ends[index] = trie.push(None, 0, sequence);
                }
            }
            Sharing::Shared => trie.grow(sequences, &order(sequences)),
        }
        for node in (0..trie.nodes.len()).rev() {
            if let Some(parent) = trie.nodes[node].parent {
                trie.nodes[parent].below = trie.nodes[parent].below.max(trie.nodes[node].below);
            }
        }
        trie
    }

    /// Nodes from a root down to `node`.
    pub(crate) fn path(&self, node: usize) -> Vec<usize> {
        let mut path: Vec<usize> = std::iter::successors(Some(node), |&node| self.nodes[node].parent).collect();
        path.reverse();
        path
    }

    /// Rows of a sequence, in the order of its tokens.
    pub fn rows(&self, sequence: usize) -> Vec<usize> {
        self.path(self.ends[sequence]).into_iter().flat_map(|node| self.nodes[node].rows.clone()).collect()
    }

    /// Each row's place in its sequences.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().flat_map(|node| node.position..node.position + node.rows.len())
    }

    /// Nodes for sorted sequences. Those of a range agree in their first `position` tokens, and they
    /// agree as far as the first and the last of the range do.
    fn grow(&mut self, sequences: &[&[TokenId]], order: &[usize]) {
        // A list of what is to be done and no recursion: nested cuts make deep tries.
        let mut waiting = Vec::new();
        branch(sequences, order, None, 0, &mut waiting);
        while let Some((parent, position, members)) = waiting.pop() {
            let (first, last) = (sequences[members[0]], sequences[members[members.len() - 1]]);
            let end = common(first, last);
            let node = self.push(parent, position, &first[position..end]);
            let ending = members.iter().take_while(|&&member| sequences[member].len() == end).count();
            for &member in &members[..ending] {
                self.ends[member] = node;
            }
            branch(sequences, &members[ending..], Some(node), end, &mut waiting);
        }
    }

    fn push(&mut self, parent: Option<usize>, position: usize, tokens: &[TokenId]) -> usize {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        let below = self.tokens.len();
        self.nodes.push(Node { parent, rows: start..below, position, below });
        self.nodes.len() - 1
    }
}

/// Tokens that two sequences begin with.
pub(crate) fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Ranges of `members` with the same token at `position`, the first of them on top.
fn branch<'a>(
    sequences: &[&[TokenId]],
    members: &'a [usize],
    parent: Option<usize>,
    position: usize,
    waiting: &mut Vec<(Option<usize>, usize, &'a [usize])>,
) {
    let by_token = members.chunk_by(|&a, &b| sequences[a][position] == sequences[b][position]);
    waiting.extend(by_token.rev().map(|members| (parent, position, members)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sequences: &[&[TokenId]], expected: &str) {
        let trie = Trie::new(sequences, Sharing::Shared);
        let shown: Vec<String> = trie
            .nodes
            .iter()
            .map(|node| {
                let parent = node.parent.map_or("root".to_owned(), |parent| parent.to_string());
                format!("{parent}@{}{:?}<{}", node.position, &trie.tokens[node.rows.clone()], node.below)
            })
            .collect();
        assert_eq!(shown.join(" "), expected);
        for (index, &sequence) in sequences.iter().enumerate() {
            let tokens: Vec<TokenId> = trie.rows(index).into_iter().map(|row| trie.tokens[row]).collect();
            assert_eq!(tokens, sequence, "sequence {index} can be read back");
        }
        let positions: Vec<usize> = trie.positions().collect();
        for index in 0..sequences.len() {
            for (position, row) in trie.rows(index).into_iter().enumerate() {
                assert_eq!(positions[row], position);
            }
        }
    }

    #[test]
    fn beginnings_are_there_once() {
        check(&[&[1, 2, 3]], "root@0[1, 2, 3]<3");
        check(&[&[1, 2, 3], &[1, 2, 3]], "root@0[1, 2, 3]<3");
        check(&[&[1, 2, 4], &[1, 2, 3]], "root@0[1, 2]<4 0@2[3]<3 0@2[4]<4");
        check(&[&[1, 2], &[1, 2, 3], &[1]], "root@0[1]<3 0@1[2]<3 1@2[3]<3");
        check(&[&[7, 7], &[5], &[7, 8, 9], &[7, 8]], "root@0[5]<1 root@0[7]<5 1@1[7]<3 1@1[8]<5 3@2[9]<5");
        check(&[], "");
    }

    #[test]
    fn apart_every_sequence_has_its_own_rows() {
        let trie = Trie::new(&[&[1, 2], &[1, 2], &[1]], Sharing::Separate);
        assert_eq!(trie.tokens, [1, 2, 1, 2, 1]);
        assert_eq!(trie.rows(2), [4]);
    }

    #[test]
    fn runs_count_a_shared_token_once() {
        let sequences: [&[TokenId]; 4] = [&[1, 2, 3, 4], &[1, 2, 3, 5], &[9, 9], &[1, 2, 3, 4, 5]];
        let order = order(&sequences);
        assert_eq!(order, [0, 3, 1, 2]);
        let cut = |budget, sharing| runs(&sequences, &order, budget, sharing);
        assert_eq!(cut(8, Sharing::Shared), [vec![0, 3, 1, 2]]);
        assert_eq!(cut(6, Sharing::Shared), [vec![0, 3, 1], vec![2]]);
        assert_eq!(cut(3, Sharing::Shared), [vec![0], vec![3], vec![1], vec![2]]);
        let groups: [&[TokenId]; 4] = [&[1, 2, 3, 4], &[1, 2, 3, 5], &[2, 2, 3, 4], &[2, 2, 3, 5]];
        let groups = runs(&groups, &[0, 1, 2, 3], 9, Sharing::Shared);
        assert_eq!(groups, [vec![0, 1], vec![2, 3]], "rather between groups than inside one");
        assert_eq!(cut(9, Sharing::Separate), [vec![0, 3], vec![1, 2]]);
    }
}
