;; Recurses for ever while the host asks it for room for its input. Must end at the limit on the stack.
(func $deep (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (i32.add (i32.const 1) (call $deep (local.get 0) (local.get 1) (local.get 2) (local.get 3))))
(run (call $fine))
