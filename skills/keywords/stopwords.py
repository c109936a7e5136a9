"""Words that join phrases and are part of none: function words, by language."""

STOPWORDS = {
    "en": frozenset(
        """a about above after again against all also although always am among an and any are as at away back be became
        because been before being below between both but by can cannot could did do does doing done down during each
        either else even ever every few for from further get gets got had has have having he her here hers herself him
        himself his how however i if in into is it its itself just let like made make makes many may me might more most
        much must my myself neither never no nor not now of off often on once only or other our ours ourselves out over
        own per quite rather really said same say says see seem seems several shall she should since so some still such
        than that the their theirs them themselves then there these they this those though through thus to too under
        until up upon us use used using very was we well were what when where whether which while who whom whose why
        will with within without would yet you your yours yourself yourselves don't doesn't didn't isn't aren't wasn't
        weren't won't can't couldn't shouldn't wouldn't it's that's there's i'm i've i'll you're we're they're he's
        she's""".split()
    ),
    "de": frozenset(
        """ab aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim bereits bin bis bist
        da dabei dadurch dafür daher damit danach dann darauf daraus das dass dazu dein deine dem den denn der des
        deshalb dessen die dies diese diesem diesen dieser dieses doch dort du durch eher ein eine einem einen einer
        eines einige er es etwa etwas euch euer für gegen gewesen hab habe haben hat hatte hatten hier hin hinter ich
        ihm ihn ihnen ihr ihre ihrem ihren ihrer im in indem ins ist ja jede jedem jeden jeder jedes jedoch jetzt kann
        kein keine keinem keinen keiner können könnte machen man mehr mein meine mich mir mit muss müssen nach nachdem
        nicht nichts noch nun nur ob oder ohne sehr sein seine seinem seinen seiner seit sich sie sind so sogar soll
        sollen sollte sondern sonst sowie über um und uns unser unsere unter viel viele vom von vor war waren warum was
        weg weil weiter welche welchem welchen welcher wenn wer werde werden wie wieder will wir wird wo wohl worden
        wurde wurden während würde würden zu zum zur zwar zwischen""".split()
    ),
}
