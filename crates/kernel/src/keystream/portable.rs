//! Counter mode without vectors of our own: the `aes` crate, block by block.

use aes::cipher::{Array, BlockCipherEncrypt, BlockSizeUser, consts::U16};
use zeroize::Zeroize;

use super::{BLOCK_BYTES, Counter, Sign};
use crate::lane::Lane;

/// Adds or subtracts the keystream from `counter` on; the last block may be used in part.
pub(crate) fn combine<C, L>(cipher: &C, counter: Counter, sign: Sign, lanes: &mut [L])
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
    L: Lane,
{
    let mut blocks = [Array::from([0; BLOCK_BYTES]); BLOCKS];
    let mut low = counter.low;
    for lanes in lanes.chunks_mut(BLOCKS * BLOCK_BYTES / L::BYTES) {
        for block in &mut blocks {
            block[..8].copy_from_slice(&counter.high.to_be_bytes());
            block[8..].copy_from_slice(&low.to_be_bytes());
            // Past the last block of the call the low half may wrap; those blocks are not used.
            low = low.wrapping_add(1);
        }
        cipher.encrypt_blocks(&mut blocks);
        let words = blocks.iter().flat_map(|block| block.chunks_exact(L::BYTES)).map(L::from_le_slice);
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = match sign {
                Sign::Plus => lane.wrapping_add(word),
                Sign::Minus => lane.wrapping_sub(word),
            };
        }
    }
    for block in &mut blocks {
        block.0.zeroize();
    }
}

/// Blocks handed to the cipher at a time: what its bitsliced form takes at once on 64-bit machines, twice.
const BLOCKS: usize = 8;
