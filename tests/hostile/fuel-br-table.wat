;; Tries to loop by jumps through a table of targets only. Must end when its fuel is gone.
(run (local $n i32)
    (loop $a (loop $b (loop $c
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_table $a $b $c $b (i32.and (local.get $n) (i32.const 3))))))
    unreachable)
