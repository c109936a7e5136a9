;; Gives the host the address zero to write to, which is its own memory. Must harm nobody.
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
(run (call $fine))
