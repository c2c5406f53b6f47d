"""Side-by-side measurements that anyone can re-run."""
