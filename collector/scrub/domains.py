"""Top-level domains that mail is written to, so that `a@b.transpose` is no address."""

COUNTRY = frozenset(
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br "
    "bs bt bv bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do "
    "dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt "
    "gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp "
    "kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms "
    "mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr "
    "ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st su sv sx "
    "sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn "
    "vu wf ws ye yt za zm zw".split()
)
"""Country codes (ISO 3166 and IANA)."""

GENERIC = frozenset(
    "academy accountant accountants actor adult aero africa agency airforce amsterdam "
    "apartments app archi army arpa art asia associates attorney auction audio auto baby band "
    "bank bar barcelona bargains bayern beauty beer berlin best bet bible bid bike bingo bio "
    "biz black blog blue boats boston boutique broker brussels build builders business buzz cab "
    "cafe cam camera camp capital car cards care career careers cars casa cash casino cat "
    "catering center ceo charity chat cheap church city claims cleaning click clinic clothing "
    "cloud club coach codes coffee college cologne com community company computer condos "
    "construction consulting contact contractors cooking cool coop corsica country coupons "
    "courses credit creditcard cricket cruises dance date dating day deals degree delivery "
    "democrat dental dentist desi design dev diamonds digital direct directory discount doctor "
    "dog domains download earth eco edu education email energy engineer engineering enterprises "
    "equipment estate eus events exchange expert exposed express fail faith family fan fans "
    "farm fashion film finance financial fish fishing fit fitness flights florist flowers fm "
    "football forsale forum foundation fun fund furniture futbol fyi gallery game games garden "
    "gay gifts gives glass global gmbh gold golf gov graphics gratis green gripe group guide "
    "guru hamburg haus health healthcare help helsinki hiphop hockey holdings holiday homes "
    "hospital host hosting hotel house how icu immo immobilien inc industries info ink "
    "institute insure int international investments irish istanbul jetzt jewelry jobs joburg "
    "kaufen kids kim kitchen kiwi koeln land lat law lawyer lease legal lgbt life lighting "
    "limited limo link live llc loan loans lol london love ltd ltda luxe luxury madrid maison "
    "management market marketing mba media melbourne memorial men menu miami mil mobi moda moe "
    "mom money mortgage moscow movie museum name navy net network news ngo ninja nrw nyc "
    "observer one ong onl online ooo org organic paris partners parts party pet pharmacy photo "
    "photography photos pics pictures pink pizza place plumbing plus poker porn post press pro "
    "productions promo properties property pub quebec quest racing realestate recipes red rehab "
    "reise reisen rent rentals repair report republican rest restaurant review reviews rich rio "
    "rip rocks rodeo run saarland sale salon sarl school schule science scot security services "
    "sex sexy shiksha shoes shop shopping show singles site ski soccer social software solar "
    "solutions space sport srl store stream studio study style sucks supplies supply support "
    "surf surgery swiss sydney systems taipei tattoo tax taxi team tech technology tel tennis "
    "theater tickets tienda tips tires tirol today tokyo tools top tours town toys trade "
    "trading training travel tube university uno vacations vegas ventures vet viajes video "
    "villas vin vip vision vodka vote voting voyage wales wang watch webcam website wedding "
    "wien wiki win wine work works world wtf xxx xyz yachts yoga yokohama zone".split()
)
"""IANA's common generic ones."""

INSIDE = frozenset("local internal corp lan intranet home example".split())
"""Names used within companies, and RFC 2606's `example`, which stands in for a real one."""

ALL = COUNTRY | GENERIC | INSIDE
