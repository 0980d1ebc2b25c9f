//! A memfd with a page of numbers, and behind it a ring that is mapped twice in a row, so that each
//! part of it is one slice.
#![allow(unsafe_code)] // mmap(2), and what is in it

use std::ffi::c_void;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Size of the ring in bytes.
pub(super) const CAPACITY: usize = 4 * 1024 * 1024;

/// Size of a page, and of the part that holds the numbers.
pub(super) const PAGE: usize = 4096;

/// Behind the numbers, the other half of the first page is for bytes that nobody keeps.
pub(super) const SCRATCH: usize = PAGE / 2;

/// The numbers in the first page, in their order.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Format,
    Guard,
    Base,
    Head,
    Tail,
    ReadingTo,
    WritingFrom,
    WritingTo,
    Device,
    Inode,
    Size,
    Lost,
    LosingTo,
    LostSince,
    LostUntil,
    MarkedTo,
    SourceFull,
}

#[derive(Debug)]
pub(super) struct Memory {
    descriptor: OwnedFd,
    /// Of `PAGE + 2 * CAPACITY` bytes.
    start: NonNull<u8>,
}

// SAFETY: the memory is shared by nature. Its numbers are atomic, its bytes are copied out of it by
// atomic reads, and slices to write to are made in unsafe functions only.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn new() -> Result<Memory> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let descriptor = rustix::fs::memfd_create("hypeman-console", flags)?;
        rustix::fs::ftruncate(&descriptor, (PAGE + CAPACITY) as u64)?;
        // Others that hold it cannot make it smaller, which would be our SIGBUS (memfd_create(2)).
        rustix::fs::fcntl_add_seals(&descriptor, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Memory::map(descriptor)
    }

    pub(super) fn open(descriptor: OwnedFd) -> Result<Memory> {
        let seals = rustix::fs::fcntl_get_seals(&descriptor)?;
        let size = rustix::fs::fstat(&descriptor)?.st_size;
        if !seals.contains(SealFlags::SHRINK) || u64::try_from(size) != Ok((PAGE + CAPACITY) as u64) {
            return Err(Error::new(ErrorKind::InvalidData, "no console's buffer"));
        }
        Memory::map(descriptor)
    }

    fn map(descriptor: OwnedFd) -> Result<Memory> {
        let length = PAGE + 2 * CAPACITY;
        // SAFETY: a new mapping where the kernel finds room.
        let start =
            unsafe { rustix::mm::mmap_anonymous(null_mut(), length, ProtFlags::empty(), MapFlags::PRIVATE)? };
        let memory = Memory { start: NonNull::new(start.cast()).ok_or(ErrorKind::OutOfMemory)?, descriptor };
        let access = ProtFlags::READ | ProtFlags::WRITE;
        for (at, offset, length) in [(0, 0, PAGE), (PAGE, PAGE, CAPACITY), (PAGE + CAPACITY, PAGE, CAPACITY)]
        {
            let (place, flags) = (memory.at(at), MapFlags::SHARED | MapFlags::FIXED);
            // SAFETY: it takes the place of a part of the mapping that was just made and that
            // nobody uses yet.
            unsafe { rustix::mm::mmap(place, length, access, flags, &memory.descriptor, offset as u64)? };
        }
        Ok(memory)
    }

    fn at(&self, offset: usize) -> *mut c_void {
        self.start.as_ptr().wrapping_add(offset).cast()
    }

    pub(super) fn descriptor(&self) -> Result<OwnedFd> {
        self.descriptor.as_fd().try_clone_to_owned()
    }

    fn number(&self, field: Field) -> &AtomicU64 {
        // SAFETY: the first page is mapped as long as `self` lives, a page is aligned for anything,
        // each field lies in it, and it is used as nothing but atomic numbers.
        unsafe { &*self.at(field as usize * size_of::<AtomicU64>()).cast::<AtomicU64>() }
    }

    pub(super) fn get(&self, field: Field) -> u64 {
        self.number(field).load(Ordering::Acquire)
    }

    pub(super) fn set(&self, field: Field, value: u64) {
        self.number(field).store(value, Ordering::Release);
    }

    /// Copies bytes of the ring, which may go over its end, into `target`. A VMM that was taken
    /// over may write to them meanwhile: what is copied is then anything, and stays what it is.
    /// `offset` and the target's length are at most the ring's size.
    pub(super) fn copy_to(&self, offset: usize, target: &mut [u8]) {
        assert!(offset <= CAPACITY && target.len() <= CAPACITY, "outside of the ring");
        self.copy(PAGE + offset, target);
    }

    /// As [`Memory::copy_to`], of the scratch space.
    pub(super) fn copy_scratch_to(&self, target: &mut [u8]) {
        assert!(target.len() <= SCRATCH, "outside of the scratch space");
        self.copy(PAGE - SCRATCH, target);
    }

    fn copy(&self, offset: usize, target: &mut [u8]) {
        const WORD: usize = size_of::<AtomicU64>();
        let mut done = 0;
        while done < target.len() {
            let place = self.at(offset + done);
            let rest = &mut target[done..];
            if place.addr().is_multiple_of(WORD) && rest.len() >= WORD {
                // SAFETY: the callers have seen to it that this lies in the mapping, which lives as
                // long as `self`; it is aligned, and a word that others may write is read as an
                // atomic.
                let word = unsafe { &*place.cast::<AtomicU64>() }.load(Ordering::Relaxed);
                rest[..WORD].copy_from_slice(&word.to_ne_bytes());
                done += WORD;
            } else {
                // SAFETY: as above; a byte is aligned anywhere.
                rest[0] = unsafe { &*place.cast::<AtomicU8>() }.load(Ordering::Relaxed);
                done += 1;
            }
        }
    }

    /// Bytes of the ring to write to, which may go over its end. Their contents are not to be read
    /// through the slice: another process may write there too.
    ///
    /// # Safety
    /// Nobody else in this process reads or writes them as long as the slice lives, and nothing is
    /// read through it.
    #[allow(clippy::mut_from_ref)] // that is for the caller to see to
    pub(super) unsafe fn bytes_mut(&self, offset: usize, length: usize) -> &mut [u8] {
        assert!(offset <= CAPACITY && length <= CAPACITY, "outside of the ring");
        // SAFETY: both mappings of the ring lie behind the page, one behind the other; the rest the
        // caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.at(PAGE + offset).cast(), length) }
    }

    /// The scratch space, to write to.
    ///
    /// # Safety
    /// Nobody else in this process reads or writes it as long as the slice lives, and nothing is
    /// read through it.
    #[allow(clippy::mut_from_ref)] // that is for the caller to see to
    pub(super) unsafe fn scratch(&self) -> &mut [u8] {
        // SAFETY: it is the second half of the first page, where no number is; the rest the caller
        // promises.
        unsafe { std::slice::from_raw_parts_mut(self.at(PAGE - SCRATCH).cast(), SCRATCH) }
    }

    /// Gives the ring's memory behind its first `keep` bytes back to the system; it is NUL from
    /// then on.
    pub(super) fn give_back(&self, keep: usize) {
        let keep = keep.next_multiple_of(PAGE).min(CAPACITY);
        // SAFETY: pages of our own mapping, which hold nothing that anybody needs: the caller has
        // seen to that.
        let _ = unsafe { rustix::mm::madvise(self.at(PAGE + keep), CAPACITY - keep, Advice::LinuxRemove) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and all slices of it have ended with `self`.
        let _ = unsafe { rustix::mm::munmap(self.at(0), PAGE + 2 * CAPACITY) };
    }
}
