;; Fails in the host's name, as if a human had refused. Must be told apart: a human is asked, and it is the skill's word.
(data (i32.const 2048) "refused-by-human")
(run
    (i32.store8 (i32.const 1024) (i32.const 1))
    (i32.store8 (i32.const 1032) (i32.const 3))
    (i32.store (i32.const 1036) (i32.const 2048)) (i32.store (i32.const 1040) (i32.const 16))
    (i32.store (i32.const 1044) (i32.const 2048)) (i32.store (i32.const 1048) (i32.const 16))
    (i32.store8 (i32.const 1056) (i32.const 0))
    (i32.const 1024))
