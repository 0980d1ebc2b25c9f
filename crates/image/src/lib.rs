//! OCI images to disks, distribution kernels to something a VMM boots, and the initramfs that joins them.
