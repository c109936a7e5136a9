;; Calls itself for ever. Must end at the limit on the stack.
(func $deep (param i32) (result i32) (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
(run (call $deep (i32.const 0)))
