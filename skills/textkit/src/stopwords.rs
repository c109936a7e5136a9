//! Stop words of seven languages, and which of the languages a text is in.
//! A language's list is used only if the text seems to be written in it, so that German "die" does not eat English "die".
//! Called before words are counted.

const ENGLISH: &str = "a about above actually after again against all almost along already also although always am among an and another any anyone anything are aren't around as at away back be became because become been before behind being below between both but by came can can't cannot come could couldn't did didn't do does doesn't doing don't done down during each either else enough even ever every everyone everything few first for from further get gets getting give go goes going gone got had hadn't has hasn't have haven't having he he'd he'll he's her here hers herself him himself his how however i i'd i'll i'm i've if in indeed instead into is isn't it it's its itself just keep kind know last least less let let's like likely little long look lot made make makes many may maybe me might mine more most much must my myself near need never new next no nobody none nor not nothing now of off often on once one only onto or other others our ours ourselves out over own per perhaps please put quite rather really s said same saw say says see seem seems seen several shall she she's should shouldn't since so some someone something sometimes soon still such sure t take than thank thanks that that's the their theirs them themselves then there there's these they they'd they'll they're they've thing things think this those though through thus till to today together tomorrow too took toward towards tried try two under until up upon us use used uses using very via want wants was wasn't way we we'd we'll we're we've well went were weren't what what's when where whether which while who who's whole whom whose why will with within without won't would wouldn't yes yesterday yet you you'd you'll you're you've your yours yourself rt amp via lol";
const GERMAN: &str = "aber alle allem allen aller alles als also am an ander andere anderem anderen anderer anderes auch auf aus bei bin bis bist da damit dann das dass daß dazu dein deine dem den denn der des dessen deshalb die dies diese diesem diesen dieser dieses doch dort du durch ein eine einem einen einer eines einfach einige er es etwas euch euer für gegen gewesen hab habe haben hat hatte hatten heute hier hin hinter ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im immer in indem ins ist ja jede jedem jeden jeder jedes jetzt kann kein keine keinem keinen keiner können könnte machen man manche mehr mein meine mich mir mit muss musste müssen nach nicht nichts noch nun nur ob oder ohne schon sehr sein seine seinem seinen seiner seit sich sie sind so solche soll sollte sondern sonst über um und uns unser unsere unter viel viele vom von vor wann war waren warum was weg weil weiter welche wenn wer werde werden wie wieder will wir wird wirst wo wollen worden wurde wurden während würde zu zum zur zwar zwischen";
const FRENCH: &str = "ai aie alors après as au aucun aura aussi autre autres aux avait avant avec avez avoir avons c'est car ce cela ces cet cette ceux chaque chez ci comme comment d'un d'une dans de depuis des donc dont du elle elles en encore entre es est et étaient était été être eu fait faire fois font hors il ils j'ai je juste l la le les leur leurs lui là ma mais me même mes moi moins mon ne ni non nos notre nous on ont ou où par parce pas pendant peu peut plus plupart pour pourquoi qu'il qu'on quand que quel quelle quelles quels qui quoi s'est sa sans se sera ses seulement si sien soit son sont sous sur ta tandis te tellement tels tes toi ton tous tout toute toutes très trop tu un une vers voient voir vont vos votre vous vu y";
const SPANISH: &str = "a al algo algunas algunos ante antes aquí así aún cada como con contra cual cuando de del desde donde dos durante e el él ella ellas ellos en entre era eran eres es esa esas ese eso esos esta está están estar estas este esto estos estoy fin fue fueron ha hace hacer hacia han has hasta hay he hoy la las le les lo los más me mi mis mismo mucho muchos muy nada ni no nos nosotros nuestra nuestro o os otra otras otro otros para pero poco por porque que qué quien se sea ser será si sí sido siempre sin sobre solo sólo son su sus también tan tanto te tener tiene tienen toda todas todavía todo todos tu tus un una uno unos usted va vamos van ya yo";
const ITALIAN: &str = "a abbiamo ad ai al alla alle allo anche ancora avere aveva c'è che chi ci come con contro cosa così cui da dal dalla dalle dei del della delle dello di dopo dove due e è ed era erano essere fa fare fino fra fu gli ha hai hanno ho i il in io la le lei li lo loro lui ma me mi mia mio molto ne negli nei nel nella nelle no noi nostra nostro non o ogni per perché però più poi qua quale quando quanto quella quelle quelli quello questa queste questi questo qui se sei sempre senza si sia siamo sì solo sono sta stata stato su sua sue sugli sui sul sulla suo suoi tra tu tua tutti tutto un un'altra una uno vi voi";
const PORTUGUESE: &str = "a à ainda ao aos aquela aquele aqui as às até com como da das de dela dele deles depois do dos e é ela elas ele eles em entre era eram essa esse esta está estão estar estas este estes eu foi foram há isso isto já lá lhe mais mas me mesmo meu minha muito muitos na não nas nem no nos nós nossa nosso num numa o os ou para pela pelas pelo pelos pode por porque qual quando que quem se seja sem ser será seu seus só sobre sua suas também te tem têm ter tinha toda todas todo todos tu tudo um uma você vocês vai vão";
const DUTCH: &str = "aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus een eens en er ge geen geweest haar had heb hebben heeft hem het hier hij hoe hun iemand iets ik in is ja je jij jullie kan kon kunnen maar me meer men met mij mijn moet na naar niet niets nog nu of om omdat onder ons ook op over reeds te tegen toch toen tot u uit uw van veel voor want waren was wat we werd wezen wie wij wil worden wordt zal ze zei zelf zich zij zijn zo zonder zou";

/// Qualities and actions that go with everything: no topic by themselves, and no part of one.
const FILLER: &str = "able actual amazing awesome bad basic beautiful believe best better bien big bit bon bonne bought bring buena bueno bunch buy called certain cheap clear close coming complete completely cool decent decided different difficult disappointed early easily easy entire especially excellent expect expected extremely fairly fantastic far fast favorite feel felt final finally fine found free full fully fun ganz gave geht gemacht general gibt ging glad good gran grand grande great groß große großen guess gut gute guten guter gutes happen happened happy hard heard high highly huge impressed included klein kleine large late later learn leave left long longer loud loved low macht main major mean mention near neu neue neuen neuer neues new next nice normal nouveau nouvelle nueva nuevo ok okay old open original overall pay perfect perfectly personally petit petite plus poor possible pretty previous purchase purchased quick quickly quiet ready real recent recently recommend recommended regular right run serious short show similar simple simply single slow small special started stay strong superb sweet tell ten terrible think three told total totally true typical understand usual usually various wait weak wide wonderful worked working works worse worst worth wrong young";
/// Nouns that go with everything: no topic by themselves, but a part of one ("night train").
const VAGUE: &str = "an année ans año años call care case check couple course day days día días end fact friend friends gens gente guy guys half hand help hope hour hours idea issue jahr jahre jahren job jour jours kind leute light lot lots love mal man matter menschen minute minutes moment monat monate money month months morning night number offer opinion order people person piece place plan point price problem problems quality quote reason review reviews second set sort start stop stuff tag tage tagen talk temps thank third thought tiempo time times top trouble turn type unit walk watch week weeks wish woche wochen word work world year years zeit";

const LISTS: [&str; 7] = [ENGLISH, GERMAN, FRENCH, SPANISH, ITALIAN, PORTUGUESE, DUTCH];

/// The stop words of some languages.
#[derive(Clone, Debug)]
pub struct StopWords {
    words: std::collections::BTreeSet<&'static str>,
}

impl StopWords {
    /// Those of every language that a good part of the text seems to be written in; English when nothing can be told.
    #[must_use]
    pub fn for_text<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let index = Self::index();
        let mut votes = [0_usize; LISTS.len()];
        for word in words.take(20_000) {
            if let Some(languages) = index.get(normal(word).as_str()) {
                for language in languages {
                    votes[*language] += 1;
                }
            }
        }
        let most = votes.iter().copied().max().unwrap_or(0);
        // Neighbouring languages share many small words; a third of the winner's votes would be mere kinship.
        let chosen = (0..LISTS.len())
            .filter(|at| votes[*at] * 2 > most || (*at == 0 && votes[0] * 10 > most) || most == 0 && *at == 0);
        Self { words: chosen.flat_map(|at| LISTS[at].split(' ')).collect() }
    }

    /// Those of every language.
    #[must_use]
    pub fn of_all() -> Self {
        Self { words: LISTS.iter().flat_map(|list| list.split(' ')).collect() }
    }

    fn index() -> std::collections::BTreeMap<&'static str, Vec<usize>> {
        let mut index = std::collections::BTreeMap::<&str, Vec<usize>>::new();
        for (language, list) in LISTS.iter().enumerate() {
            for word in list.split(' ') {
                index.entry(word).or_default().push(language);
            }
        }
        index
    }

    /// Is it a stop word, however it is written?
    #[must_use]
    pub fn contains(&self, word: &str) -> bool {
        self.words.contains(normal(word).as_str())
    }
}

/// How much a word says about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// It can be a topic.
    Full,
    /// It can only be a part of a topic: "night".
    Vague,
    /// It goes with everything: "great", "bought".
    Filler,
}

/// How much a word says about a topic, however it is written.
#[must_use]
pub fn weight(word: &str) -> Weight {
    static WORDS: std::sync::OnceLock<std::collections::BTreeMap<&'static str, Weight>> = std::sync::OnceLock::new();
    let words = WORDS.get_or_init(|| {
        let vague = VAGUE.split(' ').map(|word| (word, Weight::Vague));
        vague.chain(FILLER.split(' ').map(|word| (word, Weight::Filler))).collect()
    });
    words.get(normal(word).as_str()).copied().unwrap_or(Weight::Full)
}

fn normal(word: &str) -> String {
    word.to_lowercase().replace('’', "'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(text: &str) -> StopWords {
        StopWords::for_text(text.split_whitespace())
    }

    #[test]
    fn weak_words_are_no_topics() {
        assert_eq!(weight("Great"), Weight::Filler);
        assert_eq!(weight("Night"), Weight::Vague);
        assert_eq!(weight("camera"), Weight::Full);
    }

    #[test]
    fn the_text_decides_on_the_language() {
        let english = stop("the cats of the town will die in the winter and nobody knows why");
        assert!(english.contains("The") && english.contains("don’t") && !english.contains("die"));
        let german = stop("die Katzen der Stadt sind im Winter nicht zu sehen und niemand weiß warum");
        assert!(german.contains("die") && german.contains("nicht"));
        let unknown = stop("xyzzy plugh");
        assert!(unknown.contains("the") && !unknown.contains("nicht"));
        let mixed = stop("the cat and the dog are in the house die Katze und der Hund sind in dem Haus");
        assert!(mixed.contains("the") && mixed.contains("und"));
    }
}
