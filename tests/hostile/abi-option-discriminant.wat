;; Returns an option that is neither there nor not. Must trap.
(run
    (i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1056) (i32.const 7)) (i32.const 1024))
